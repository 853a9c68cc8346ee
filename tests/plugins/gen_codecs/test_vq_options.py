"""Defaults are the published system; what cannot work is refused in the recipe's words."""

import pytest

from gen_codecs.vq_options import CodebookOptions, DiscriminatorOptions, LossOptions, Vqgan, Vqvae


def test_the_defaults_are_the_published_numbers():
    o = Vqgan()
    assert (o.stride, o.width, o.latent_channels, o.codes) == ((8, 8, 8), 16, 8, 1024)
    assert (o.blocks_encoder, o.blocks_decoder, o.norm, o.norm_groups, o.padding) == (
        1,
        2,
        "group",
        32,
        "replicate",
    )
    assert (o.codebook.decay, o.codebook.laplace_eps, o.codebook.kmeans_every) == (0.99, 1e-7, 1)
    assert (o.losses.l1, o.losses.lpips, o.losses.commitment, o.losses.feature_matching) == (4, 4, 0.25, 4)
    assert (o.losses.gan_2d, o.losses.gan_3d) == (1, 1)
    assert (o.discriminator.start, o.discriminator.width, o.discriminator.layers) == (5000, 64, 3)
    assert (o.fit.optimizer, o.fit.betas, o.fit.lr, o.fit.clip) == ("adam", (0.5, 0.9), 3e-4, 1.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Vqvae(stride=(8, 8, 3)), r"stride \[8, 8, 3\]: each of D, H, W must be one of"),
        (lambda: Vqvae(stride=(1, 1, 1)), "compresses nothing: use the codec 'identity'"),
        (lambda: Vqvae(stride=(4, 4, 4), levels=3), r"levels = 3: stride \[4, 4, 4\] has at most 2"),
        (lambda: Vqvae(multipliers=(1, 2)), "one for each of the 3 levels"),
        (lambda: Vqvae(multipliers=(1, 0, 2)), "each must be > 0"),
        (lambda: Vqvae(losses=LossOptions(gan_3d=2.0)), "losses.gan_3d has no effect without discriminators"),
        (lambda: Vqvae(losses=LossOptions(adaptive=True)), "losses.adaptive has no effect"),
        (lambda: Vqvae(codes=1), "codes"),
        (lambda: Vqvae(width=0), "width"),
        (lambda: CodebookOptions(decay=1.0), "decay"),
        (lambda: CodebookOptions(dead_share=1.5), "dead_share"),
        (lambda: CodebookOptions(queue=0), "queue"),
        (lambda: DiscriminatorOptions(start=-1), "start"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_vqvae_may_switch_terms_off_that_it_does_not_have():
    assert Vqvae(losses=LossOptions(gan_2d=0.0, gan_3d=0.0, feature_matching=0.0)).losses.gan_2d == 0
