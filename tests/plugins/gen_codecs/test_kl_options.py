"""Defaults are the published lung-CT system; what cannot work is refused in the recipe's words."""

import pytest

from gen_codecs.kl_options import AutoencoderKl, KlLossOptions


def test_the_defaults_are_the_published_numbers():
    o = AutoencoderKl()
    assert o.channels == [64, 64, 64] and o.stride == (4, 4, 4)
    assert (o.latent_channels, o.blocks, o.norm_groups) == (3, 2, 32)
    assert [o.attends(i) for i in range(3)] == [False, False, True]
    assert (o.losses.l1, o.losses.kl, o.losses.lpips, o.losses.gan_3d) == (1, 1e-6, 1e-3, 1e-2)
    assert o.fit.optimizer == "adam"


@pytest.mark.parametrize("attention", [(0,), (-3,), (0, -3)])
def test_levels_are_counted_from_either_end(attention):
    assert [AutoencoderKl(attention=attention).attends(i) for i in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AutoencoderKl(stride=(4, 4, 3)), r"stride \[4, 4, 3\]: each of D, H, W must be one of"),
        (lambda: AutoencoderKl(stride=(1, 1, 1)), "compresses nothing: use the codec 'identity'"),
        (lambda: AutoencoderKl(stride=(8, 8, 8)), r"stride \[8, 8, 8\] has 4 levels, one multiplier each"),
        (lambda: AutoencoderKl(multipliers=(1.0, 0.0, 2.0)), "each must be > 0"),
        (lambda: AutoencoderKl(attention=(3,)), r"there are 3 levels, 0 .. 2 or -3 .. -1"),
        (lambda: AutoencoderKl(attention=(-4,)), "there are 3 levels"),
        (lambda: AutoencoderKl(losses=KlLossOptions(gan_3d=0.0, feature_matching=1.0)), "no effect without"),
        (lambda: KlLossOptions(lpips_share=0.0), "lpips_share"),
        (lambda: AutoencoderKl(width=0), "width"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
