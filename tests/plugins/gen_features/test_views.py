"""Random views: a function of the generator, spectra that keep their shape, each change on its own."""

import pytest
import torch

from gen_features.view_options import ViewOptions
from gen_features.views import random_view

OFF = dict.fromkeys(("rotate", "gain", "offset", "tilt", "blur", "noise", "cutout"), 0.0)
OFF |= {"crop": 1.0, "aspect": 1.0, "flip_columns": False}


def draw(x, seed=0, **on):
    return random_view(x, ViewOptions(**{**OFF, **on}), torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def x():
    return torch.rand(5, 2, 6, 20, 28, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_with_everything_off_a_view_is_its_volume(x):
    torch.testing.assert_close(draw(x), x, atol=1e-5, rtol=0)


def test_a_view_is_a_function_of_its_generator(x):
    one, same, other = (random_view(x, ViewOptions(), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other) and one.shape == x.shape
    assert torch.isfinite(one).all()


def test_flips_are_flips_of_whole_volumes(x):
    view = draw(x, flip_columns=True, flip_rows=True)
    kinds = [x, x.flip(-1), x.flip(-2), x.flip(-1, -2)]
    found = [
        next(k for k, flipped in enumerate(kinds) if torch.allclose(view[i], flipped[i], atol=1e-5)) for i in range(5)
    ]
    assert len(set(found)) > 1


def test_a_rotation_turns_pixels_not_coordinates():
    # a bright spot 6 pixels right of the middle of an oblong image stays 6 pixels from it, whatever the angle
    oblong = torch.zeros(8, 1, 1, 25, 41)
    oblong[:, :, :, 12, 26] = 1.0
    view = draw(oblong, rotate=90.0)[:, 0, 0]
    mass = view.sum((1, 2))
    down = (view.sum(2) * (torch.arange(25) - 12.0)).sum(1) / mass
    right = (view.sum(1) * (torch.arange(41) - 20.0)).sum(1) / mass
    torch.testing.assert_close((down.square() + right.square()).sqrt(), torch.full((8,), 6.0), atol=0.3, rtol=0)
    assert float(down.std()) > 1.0


def test_light_changes_all_bands_alike(x):
    view = draw(x, gain=0.3, offset=0.2)
    for i in range(5):
        a = torch.stack([x[i].flatten(), torch.ones_like(x[i].flatten())], 1)
        solution = torch.linalg.lstsq(a, view[i].flatten()[:, None])
        torch.testing.assert_close(a @ solution.solution, view[i].flatten()[:, None], atol=1e-4, rtol=0)


def test_a_tilt_is_a_parabola_over_the_bands_that_keeps_the_mean(x):
    change = draw(x, tilt=0.2) - x
    assert float(change.std((3, 4)).max()) < 1e-5  # the same at all pixels
    spectrum = change.mean((1, 3, 4))
    third = spectrum.diff(dim=1).diff(dim=1).diff(dim=1)
    assert float(third.abs().max()) < 1e-5 and float(spectrum.abs().max()) > 0.05


def test_blur_is_a_gaussian_and_leaves_about_half_sharp():
    many = torch.zeros(40, 1, 1, 31, 33)
    many[:, :, :, 15, 16] = 1.0
    view = draw(many, blur=0.05)
    torch.testing.assert_close(view.sum((1, 2, 3, 4)), torch.ones(40), atol=1e-2, rtol=0)
    row = (torch.arange(31) - 15.0).square()
    variance = (view[:, 0, 0].sum(2) * row).sum(1)
    sharp = variance < 1e-3
    assert 8 < int(sharp.sum()) < 32 and float(variance.max()) <= (0.05 * 31) ** 2 * 1.05


def test_noise_and_cutout_stay_within_their_settings(x):
    noise = draw(x, noise=0.1) - x
    assert 0 < float(noise.std((1, 2, 3, 4)).max()) <= 0.105
    hidden = (draw(x, seed=1, cutout=0.5) - x).abs().amax((1, 2)) > 1e-4
    for block in hidden:
        assert int(block.any(1).sum()) <= 0.5 * 20 + 1 and int(block.any(0).sum()) <= 0.5 * 28 + 1
    assert hidden.any() and not hidden.flatten(1).any(1).all()


@pytest.mark.parametrize("wrong", [{"crop": 0.0}, {"crop": 1.5}, {"aspect": 0.5}, {"noise": -1.0}, {"cutout": 2.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ViewOptions(**wrong)
