"""What this plugin offers: vector-quantized, KL and VAE codecs, the codec that does nothing, the prior of a VAE."""

from gen_core.hooks import hookimpl


@hookimpl
def register_codecs(register):
    register(
        "vqgan",
        options="gen_codecs.vq_options:Vqgan",
        build="gen_codecs.vq_codec:build_vqgan",
        version=1,
        summary="3-D VQ-GAN: EMA codebook with K-means reset, slice and volume patch discriminators.",
    )
    register(
        "vqvae",
        options="gen_codecs.vq_options:Vqvae",
        build="gen_codecs.vq_codec:build_vqvae",
        version=1,
        summary="3-D VQ-VAE: the same network and codebook without discriminators.",
    )
    register(
        "autoencoder-kl",
        options="gen_codecs.kl_options:AutoencoderKl",
        build="gen_codecs.kl_codec:build",
        version=1,
        summary="3-D autoencoder with KL-regularized latents, perceptual and adversarial losses.",
    )
    register(
        "vae",
        options="gen_codecs.vae_options:Vae",
        build="gen_codecs.vae_codec:build",
        version=1,
        summary="Variational autoencoder: one vector or small maps a volume, beta, free bits.",
    )
    register(
        "identity",
        options="gen_codecs.identity:IdentityOptions",
        build="gen_codecs.identity_codec:build",
        version=1,
        summary="No compression: the prior works on the volumes themselves.",
    )


@hookimpl
def register_priors(register):
    register(
        "standard-normal",
        options="gen_codecs.standard_normal_options:StandardNormal",
        build="gen_codecs.standard_normal:build",
        version=1,
        summary="Noise as latents, without a fit: the prior that a VAE assumes.",
    )
