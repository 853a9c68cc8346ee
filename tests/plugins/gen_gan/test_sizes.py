"""Which sizes a GAN can make."""

import pytest

from gen_core.errors import RecipeError
from gen_gan.sizes import base_of, base_of_latents, nearest


@pytest.mark.parametrize(
    ("size", "want"),
    [
        ((32, 32), ((4, 4), 3)), ((256, 256), ((4, 4), 6)), ((8, 8), ((4, 4), 1)), ((48, 64), ((6, 8), 3)),
        ((28, 28), ((7, 7), 2)), ((96, 160), ((6, 10), 4)), ((16, 64), ((4, 16), 2)), ((224, 224), ((7, 7), 5)),
        ((7, 8), None), ((33, 32), None), ((50, 50), None), ((8, 256), None), ((4, 4), None),
    ],
)  # fmt: skip
def test_sides_are_halved_together_as_often_as_they_can(size, want):
    assert base_of(size) == want


def test_a_size_that_cannot_be_is_refused_with_the_nearest():
    with pytest.raises(RecipeError, match=r"latents of 100 x 99.*99 \(try 96\)"):
        base_of_latents((2, 1, 100, 99), "dcgan")
    with pytest.raises(RecipeError, match="8 and 256 cannot be halved together far enough"):
        base_of_latents((2, 1, 8, 256), "dcgan")
    with pytest.raises(RecipeError, match=r"dcgan makes single slices, the latents are 3 deep.*\[1, H, W\]"):
        base_of_latents((2, 3, 32, 32), "dcgan")


def test_the_nearest_side_works():
    assert [nearest(s) for s in (1, 9, 50, 101)] == [8, 10, 52, 104]
