"""What this plugin offers: the vector-quantized codecs and the codec that leaves volumes as they are."""

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
        "identity",
        options="gen_codecs.identity:IdentityOptions",
        build="gen_codecs.identity_codec:build",
        version=1,
        summary="No compression: the prior works on the volumes themselves.",
    )
