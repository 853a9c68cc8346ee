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


SAMPLERS = {
    # name: (module, class of settings, summary)
    "ddpm": ("ddpm", "Ddpm", "Ancestral sampling (Ho et al. 2020)."),
    "ddim": ("ddim", "Ddim", "DDIM with eta (Song et al. 2021)."),
    "dpm++2m": ("dpm_plus_plus", "DpmPlusPlus2M", "DPM-Solver++(2M), deterministic multistep (Lu et al. 2022)."),
    "dpm++2m-sde": ("dpm_plus_plus", "DpmPlusPlus2MSde", "DPM-Solver++(2M) with noise, eta (Lu et al. 2022)."),
    "unipc": ("unipc", "Unipc", "UniPC of order 1 to 3, deterministic multistep (Zhao et al. 2023)."),
    "heun": ("heun", "Heun", "EDM's second-order sampler, with churn (Karras et al. 2022)."),
    "euler-maruyama": ("euler_maruyama", "EulerMaruyama", "Euler-Maruyama on the reverse SDE (Song et al. 2021)."),
    "predictor-corrector": (
        "predictor_corrector",
        "PredictorCorrector",
        "Reverse SDE with Langevin corrections (Song et al. 2021).",
    ),
    "ode": ("ode", "Ode", "Probability-flow ODE by adaptive Runge-Kutta 5(4), with tolerances (Song et al. 2021)."),
    "rectified-flow": ("rectified_flow", "RectifiedFlow", "Euler or Heun steps along the velocity (Liu et al. 2023)."),
}


@hookimpl
def register_samplers(register):
    for name, (module, cls, summary) in SAMPLERS.items():
        register(
            name,
            options=f"gen_diffusion.sampler_options:{cls}",
            build=f"gen_diffusion.{module}:build",
            version=1,
            summary=summary,
        )
