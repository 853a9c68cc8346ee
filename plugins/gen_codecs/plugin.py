"""What this plugin offers: the vector-quantized and KL codecs, and the codec that leaves volumes as they are."""

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
        "identity",
        options="gen_codecs.identity:IdentityOptions",
        build="gen_codecs.identity_codec:build",
        version=1,
        summary="No compression: the prior works on the volumes themselves.",
    )
