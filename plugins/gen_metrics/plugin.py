"""What this plugin offers: fidelity, distribution, spectra, anatomy, memorization and speed."""

from gen_core.hooks import hookimpl

METRICS = {
    # name: (module, class, summary)
    "psnr": ("psnr", "Psnr", "Peak signal-to-noise ratio of reconstructions, range 2."),
    "ssim": ("ssim", "Ssim", "Structural similarity of reconstructions, band by band."),
    "physical-error": ("physical_error", "PhysicalError", "Errors of reconstructions in the units of the data (HU)."),
    "codec-terms": ("codec_terms", "CodecTerms", "What the codec measures of itself, such as the KL of its posterior."),
    "ms-ssim": ("ms_ssim", "MsSsim", "Diversity: mean 3-D MS-SSIM over random pairs, safe for thin depth."),
    "fid": ("fid", "Fid", "Frechet distance of features, one vector a volume or plane by plane."),
    "hyperspectral-fid": (
        "hyperspectral_fid",
        "HyperspectralFid",
        "Frechet distance over random band triplets.",
    ),
    "kid": ("kid", "Kid", "Kernel distance of volume features: unbiased for any number of volumes."),
    "prdc": ("prdc", "Prdc", "Precision, recall, density and coverage of volume features."),
    "spectral-kl": (
        "spectral_kl",
        "SpectralKl",
        "Gaussian KL, spectral angle and Wasserstein distance of each structure's spectra.",
    ),
    "segmentation": (
        "segmentation",
        "Segmentation",
        "Precision, recall and Dice of the segmenter before and after post-processing.",
    ),
    "mask-agreement": (
        "mask_agreement",
        "MaskAgreement",
        "Whether samples show what the masks they were drawn under ask for.",
    ),
    "anatomy": ("anatomy", "Anatomy", "Discs found, vessel share of the field, vessel contrast kept."),
    "outliers": ("outliers", "Outliers", "Samples far from the data, of an impossible spectrum, or broken in range."),
    "memorization": ("memorization", "Memorization", "Nearest training neighbours and the share of copies."),
    "utility": ("utility", "Utility", "Areas under ROC curves of probes, by what their features learned from."),
    "recovery": ("recovery", "Recovery", "How often features lead an altered volume back to its original."),
    "throughput": ("throughput", "Throughput", "Samples a second and where the time of the run went."),
    "bits-per-dim": (
        "bits_per_dim",
        "BitsPerDim",
        "Likelihood of real volumes under a diffusion prior, in bits a value.",
    ),
}

# raised when figures come out differently; else 1
VERSIONS = {"bits-per-dim": 2, "fid": 2, "hyperspectral-fid": 2, "spectral-kl": 2, "memorization": 2}


@hookimpl
def register_metrics(register):
    for name, (module, cls, summary) in METRICS.items():
        register(
            name,
            options=f"gen_metrics.metric_options:{cls}",
            build=f"gen_metrics.{module}:{cls}",
            version=VERSIONS.get(name, 1),
            summary=summary,
        )
