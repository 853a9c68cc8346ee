"""What this plugin offers: networks of MONAI as codecs and priors (extra `monai`)."""

from gen_core.hooks import hookimpl


@hookimpl
def register_codecs(register):
    for name, summary in (
        ("monai-autoencoder-kl", "MONAI's AutoencoderKL; its weights load from a file."),
        ("monai-vqvae", "MONAI's VQVAE; its weights load from a file."),
        ("maisi-autoencoder", "MAISI's AutoencoderKL with split convolutions; its weights load from a file."),
    ):
        register(
            name,
            options=f"gen_monai.codec_options:{name.title().replace('-', '')}",
            build="gen_monai.codecs:build",
            version=1,
            summary=summary,
        )


@hookimpl
def register_priors(register):
    for name, summary in (
        ("monai-diffusion-unet", "MONAI's DiffusionModelUNet as a discrete-time DDPM; its weights load from a file."),
        ("maisi-diffusion-unet", "MAISI's diffusion U-Net; its weights load from a file."),
    ):
        register(
            name,
            options=f"gen_monai.prior_options:{name.title().replace('-', '')}",
            build="gen_monai.priors:build",
            version=1,
            summary=summary,
        )
