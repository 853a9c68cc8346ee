"""What this plugin offers: fidelity, distribution, spectra, anatomy, memorization and speed."""

from gen_core.hooks import hookimpl

METRICS = {
    # name: (module, class, summary)
    "psnr": ("psnr", "Psnr", "Peak signal-to-noise ratio of reconstructions, range 2."),
    "ssim": ("ssim", "Ssim", "Structural similarity of reconstructions, band by band."),
    "ms-ssim": ("ms_ssim", "MsSsim", "Diversity: mean 3-D MS-SSIM over random pairs, safe for thin depth."),
    "fid": ("fid", "Fid", "Frechet distance of volume features, standardized by validation."),
    "hyperspectral-fid": (
        "hyperspectral_fid",
        "HyperspectralFid",
        "Frechet distance over random band triplets.",
    ),
    "spectral-kl": (
        "spectral_kl",
        "SpectralKl",
        "Gaussian KL and spectral angle of each structure's spectra.",
    ),
    "anatomy": ("anatomy", "Anatomy", "Discs found, vessel share of the field, vessel contrast kept."),
    "memorization": ("memorization", "Memorization", "Nearest training neighbours and the share of copies."),
    "throughput": ("throughput", "Throughput", "Samples a second and where the time of the run went."),
}


@hookimpl
def register_metrics(register):
    for name, (module, cls, summary) in METRICS.items():
        register(
            name,
            options=f"gen_metrics.metric_options:{cls}",
            build=f"gen_metrics.{module}:{cls}",
            version=1,
            summary=summary,
        )
