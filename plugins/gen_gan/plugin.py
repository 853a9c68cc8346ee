"""What this plugin offers: two adversarial priors, and the sampler of any prior that draws in one step."""

from gen_core.hooks import hookimpl


@hookimpl
def register_priors(register):
    register(
        "stylegan2-ada",
        options="gen_gan.stylegan2_options:Stylegan2Ada",
        build="gen_gan.stylegan2:build",
        version=1,
        summary="StyleGAN2 with adaptive augmentation on 2-D latents or images, class-conditional.",
    )
    register(
        "dcgan",
        options="gen_gan.dcgan_options:Dcgan",
        build="gen_gan.dcgan:build",
        version=1,
        summary="DCGAN on 2-D latents or images, class-conditional.",
    )


@hookimpl
def register_samplers(register):
    register(
        "direct",
        options="gen_gan.direct_options:Direct",
        build="gen_gan.direct:build",
        version=1,
        summary="One draw of a one-shot prior (GAN, standard normal), with truncation.",
    )
