"""The W-Net: contract, formulas of losses and views, odd sizes, choice of bands, learning, and what is refused."""

import math

import numpy as np
import pytest
import torch
from attrs import evolve
from scipy.ndimage import rotate
from sklearn.metrics import f1_score
from torch.nn.functional import avg_pool2d

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.options import FitOptions
from gen_core.segmenter import SegmenterContext
from gen_core.testing import check_segmenter
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec
from gen_features.class_masks import class_scores, class_targets
from gen_features.wnet import UNet, build, chosen_bands, local_contrast, other_light, soft_dice_loss, training_view
from gen_features.wnet_options import Augment, WNet

SMALL = WNet(classes={"vessel": ("vein", "artery"), "onh": ("onh",)}, widths=(4, 8), bands=(1, 3, 5), contrast=5)
STILL = Augment(flip=False, rotate=0.0, gain=0.0, gamma=0.0)


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def make(spec):
    def make(options=SMALL, spec=spec, seed=0):
        torch.manual_seed(seed)
        return build(options, SegmenterContext(spec))

    return make


def test_it_is_a_segmenter(make, make_eyes):
    check_segmenter(make(), make_eyes(3, 1))
    check_segmenter(make(evolve(SMALL, crop=16, crops=2)), make_eyes(3, 1))


def test_it_learns_lines_and_discs_of_eyes_never_seen(make, make_eyes):
    model = make().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for index in range(70):
        step = Step(index, 0, 70, generator(index), torch.device("cpu"))
        optimizer.zero_grad()
        for group in model.training_step(make_eyes(6, 100 + index % 10), step):
            sum(group.losses.values()).backward()
        optimizer.step()
    scores = model.eval().validation_step(make_eyes(20, 1), None)
    assert scores["vessel dice"] > 0.8 and scores["onh dice"] > 0.8
    assert scores["vessel precision at .95"] > 0.9


def test_the_published_size_is_about_seventy_thousand_weights():
    model = build(WNet(), SegmenterContext(VolumeSpec((3, 33, 37), wavelength_nm=(555.0, 585.0, 610.0))))
    assert 55_000 < sum(p.numel() for p in model.parameters()) < 75_000


@pytest.mark.parametrize("h, w", [(13, 18), (4, 5), (31, 29)])
def test_odd_sizes_come_out_as_they_went_in(h, w):
    net = UNet(2, 5, (3, 4, 6)).eval()
    assert net(torch.randn(1, 2, h, w)).shape == (1, 5, h, w)


def test_a_crop_is_the_whole_seen_through_a_window(make):
    """Away from the border the fitted network gives a part what it gives the whole: statistics are not the image's."""
    model, x = make(evolve(SMALL, widths=(3, 4))).eval(), torch.rand(2, 1, 6, 64, 72, generator=generator(0))
    whole, part = model.probabilities(x), model.probabilities(x[..., 16:56, 8:68])
    assert torch.allclose(part[..., 18:-18, 18:-18], whole[..., 34:38, 26:50], atol=1e-5)


def test_both_networks_are_supervised_and_the_second_sees_the_first(make, make_eyes):
    model, batch = make(), make_eyes(2, 3)
    step = Step(0, 0, 1, generator(0), torch.device("cpu"))
    (group,) = model.training_step(batch, step)
    assert set(group.losses) == {"first bce", "first dice", "second bce", "second dice"}
    (from_second,) = torch.autograd.grad(group.losses["second bce"], model.first.head.bias, retain_graph=True)
    assert from_second.abs().sum() > 0
    only = make(evolve(SMALL, bce=0.0, dice=2.0))
    (group,) = only.training_step(batch, step)
    assert set(group.losses) == {"first dice", "second dice"}


def test_soft_dice_of_certain_pixels_is_one_minus_scikit_learns_f1():
    g = generator(1)
    p, t = ((torch.rand(3, 2, 40, 50, generator=g) < share).float() for share in (0.3, 0.4))
    want = np.mean([1 - f1_score(t[:, k].flatten(), p[:, k].flatten()) for k in range(2)])
    assert float(soft_dice_loss(p, t)) == pytest.approx(want, abs=1e-3)
    empty = torch.zeros(1, 1, 4, 5)
    assert float(soft_dice_loss(empty, empty)) == 0.0


def test_a_view_that_nothing_moves_is_the_image():
    image, target = torch.rand(3, 2, 9, 14, generator=generator(2)), torch.rand(3, 4, 9, 14, generator=generator(3))
    x, t = training_view(image, target, 0, 1, STILL, generator(0))
    assert torch.allclose(x, image, atol=1e-5) and torch.allclose(t, target, atol=1e-5)


def test_crops_are_parts_of_their_image_and_masks_are_cut_alike():
    y, x = torch.meshgrid(torch.arange(19.0), torch.arange(26.0), indexing="ij")
    place = torch.stack((y / 19, x / 26))[None] + torch.zeros(2, 1, 1, 1)
    image, target = training_view(place, place, 8, 3, STILL, generator(4))
    assert image.shape == (6, 2, 8, 8) and torch.allclose(image, target, atol=1e-6)
    rows, columns = image[:, 0] * 19, image[:, 1] * 26
    corner = rows[:, :1, :1].round(), columns[:, :1, :1].round()
    assert torch.allclose(rows, corner[0] + torch.arange(8.0)[:, None], atol=1e-3)
    assert torch.allclose(columns, corner[1] + torch.arange(8.0), atol=1e-3)
    assert len({(int(a), int(b)) for a, b in zip(*(c.flatten() for c in corner))}) > 3


def test_a_turned_view_is_scipys():
    image = torch.rand(1, 1, 21, 21, generator=generator(5))
    image = avg_pool2d(image, 5, 1, 2)
    turn = Augment(flip=False, rotate=30.0, gain=0.0, gamma=0.0)
    view, _ = training_view(image, image, 0, 1, turn, generator(6))
    g = generator(6)
    down, right, angle = (torch.rand(1, generator=g) for _ in range(3))
    want = rotate(image[0, 0].numpy(), (2 * float(angle) - 1) * 30.0, reshape=False, order=1)
    assert np.allclose(view[0, 0, 5:-5, 5:-5], want[5:-5, 5:-5], atol=0.02)


def test_light_is_gain_and_gamma_common_to_all_bands():
    image = 2 * torch.rand(4, 3, 5, 6, generator=generator(7)) * 0.4 - 1
    out = (other_light(image, Augment(gain=0.1, gamma=0.3), generator(8)) + 1) / 2
    g = generator(8)
    gain, gamma = (torch.exp(s * torch.randn(4, generator=g)) for s in (0.1, 0.3))
    for i in range(4):
        want = float(gain[i]) * ((image[i] + 1) / 2).numpy() ** float(gamma[i])
        assert np.allclose(out[i], want, atol=1e-5)
    assert math.isclose(float(other_light(torch.ones(1, 1, 1, 1), Augment(gain=5.0), generator(1)).max()), 1.0)


def test_local_contrast_is_the_distance_from_the_mean_in_standard_deviations():
    image = torch.rand(2, 3, 11, 14, generator=generator(9))
    from_mean = image - avg_pool2d(image, 5, 1, 2, count_include_pad=False)
    sd = (avg_pool2d(from_mean**2, 5, 1, 2, count_include_pad=False) + 1e-4).sqrt()
    assert torch.allclose(local_contrast(image, 5), from_mean / sd, atol=1e-4)
    assert torch.equal(local_contrast(torch.full((1, 1, 6, 7), -1.0), 3), torch.zeros(1, 1, 6, 7))


def test_without_contrast_the_bands_alone_enter(make):
    assert make().first.down[0].shortcut.in_channels == 6
    assert make(evolve(SMALL, contrast=0)).first.down[0].shortcut.in_channels == 3


def test_targets_are_unions_over_masks_and_depth(make_eyes):
    batch = make_eyes(2, 3)
    deep = batch.masks["vein"].expand(-1, -1, 4, -1, -1).clone()
    deep[:, :, 1:] = False
    batch.masks["vein"] = deep
    got = class_targets(SMALL.classes, batch)
    assert torch.equal(got[:, 0] > 0, (deep[:, 0, 0] | batch.masks["artery"][:, 0, 0]))
    scores = class_scores(("vessel", "onh"), got, got)
    assert scores["onh dice"] == 1 and scores["vessel recall"] == 1


def test_bands_are_the_nearest_to_the_wavelengths_or_the_indices_given():
    nm = (450.0, 500.0, 540.0, 570.0, 600.0, 640.0)
    of = lambda options, **spec: chosen_bands(options, VolumeSpec((6, 8, 9), **spec))
    assert of(WNet(), wavelength_nm=nm) == (2, 3, 4)  # 555 lies between two: the shorter; 585 likewise
    assert of(WNet(wavelengths_nm=(700.0, 640.0)), wavelength_nm=nm) == (5,)
    assert of(WNet(bands=(5, 0)), wavelength_nm=nm) == (5, 0)
    assert of(WNet()) == (0, 1, 2, 3, 4, 5)


def test_only_the_chosen_bands_are_seen(make):
    model, x = make().eval(), torch.rand(1, 1, 6, 24, 28, generator=generator(0))
    other = x.clone()
    other[:, :, [0, 2, 4]] = 0.5
    assert torch.equal(model.probabilities(x), model.probabilities(other))
    other[:, :, 3] = 0.5
    assert not torch.equal(model.probabilities(x), model.probabilities(other))


def test_what_cannot_be_is_one_line(spec, make_eyes):
    context = SegmenterContext(spec)
    with pytest.raises(RecipeError, match="the data set has no mask drusen; it has vein, artery, onh"):
        build(WNet(classes={"drusen": ("drusen",)}), context)
    with pytest.raises(RecipeError, match="there is no band 6; volumes have bands 0 to 5"):
        build(WNet(bands=(0, 6)), context)
    with pytest.raises(RecipeError, match="depth is slices"):
        build(WNet(), SegmenterContext(VolumeSpec((6, 24, 28), depth="slices")))
    with pytest.raises(RecipeError, match="7 levels .* at least 64 pixels a side, volumes are"):
        build(WNet(widths=(2,) * 7), context)
    with pytest.raises(ValueError, match="at least two levels"):
        WNet(widths=(8,))
    with pytest.raises(ValueError, match="odd width of at least 3, or 0"):
        WNet(contrast=4)
    with pytest.raises(ValueError, match="nothing would be learned"):
        WNet(bce=0.0, dice=0.0)
    with pytest.raises(RecipeError, match="classes.onh: the volumes carry no mask onh"):
        class_targets({"onh": ("onh",)}, Batch(torch.zeros(1, 1, 6, 4, 5), ["a"]))


def test_the_defaults_keep_a_fit_of_their_own():
    assert isinstance(WNet().fit, FitOptions) and WNet().fit.schedule == "cosine"
