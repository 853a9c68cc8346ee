"""What this plugin offers: two discrete-time DDPMs, a score network, and the samplers of any diffusion prior."""

from gen_core.hooks import hookimpl


@hookimpl
def register_priors(register):
    register(
        "ddpm3d",
        options="gen_diffusion.ddpm3d_options:Ddpm3d",
        build="gen_diffusion.ddpm3d:build",
        version=1,
        summary="3-D U-Net with space and depth attention, discrete-time DDPM (eps, x0 or v).",
    )
    register(
        "diffusion-unet",
        options="gen_diffusion.diffusion_unet_options:DiffusionUnet",
        build="gen_diffusion.diffusion_unet:build",
        version=1,
        summary="U-Net of latent diffusion, 2-D or 3-D, attention by level, discrete-time DDPM (eps, x0 or v).",
    )
    register(
        "ddpm++",
        options="gen_diffusion.ddpmpp_options:Ddpmpp",
        build="gen_diffusion.ddpmpp:build",
        version=1,
        summary="Score network DDPM++, 2-D or 3-D, continuous time: VP, sub-VP, VE, EDM or rectified flow.",
    )


@hookimpl
def register_samplers(register):
    for name, cls, summary in (
        ("ddpm", "Ddpm", "Ancestral sampling (Ho et al. 2020)."),
        ("ddim", "Ddim", "DDIM with eta (Song et al. 2021)."),
        ("dpm++2m", "DpmPlusPlus2M", "DPM-Solver++(2M), deterministic multistep (Lu et al. 2022)."),
    ):
        module = {"Ddpm": "ddpm", "Ddim": "ddim", "DpmPlusPlus2M": "dpm_plus_plus"}[cls]
        register(
            name,
            options=f"gen_diffusion.sampler_options:{cls}",
            build=f"gen_diffusion.{module}:build",
            version=1,
            summary=summary,
        )
