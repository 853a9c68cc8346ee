"""LPIPS with small random weights: against a loop over pixels in float64, and every way its file can be wrong."""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from gen_codecs.perceptual import SCALE, SHIFT, WIDTHS, Lpips, load_lpips, three_axis_distance
from gen_codecs.vq_options import LossOptions
from gen_core.batch import Batch
from gen_core.errors import MissingError
from gen_core.trainable import Step

SMALL = ((2, 3), (4,), (3, 2, 5))


@pytest.fixture
def weights():
    g = torch.Generator().manual_seed(0)
    return {
        name: 0.5 * (torch.rand if name.startswith("lin") else torch.randn)(p.shape, generator=g)
        for name, p in Lpips(SMALL).named_tensors()
    }


@pytest.fixture
def file(weights, tmp_path):
    save_file(weights, tmp_path / "vgg.safetensors")
    return tmp_path / "vgg.safetensors"


def images(n=2, size=(11, 14)):
    g = torch.Generator().manual_seed(1)
    return 2 * torch.rand(2, n, 3, *size, generator=g) - 1


def test_the_distance_equals_its_definition(file, weights):
    x, y = images()
    w = {k: v.double() for k, v in weights.items()}
    shift, scale = (torch.tensor(t, dtype=torch.float64).view(1, 3, 1, 1) for t in (SHIFT, SCALE))

    def conv(a, i):
        return F.conv2d(a, w[f"features.{i}.weight"], w[f"features.{i}.bias"], padding=1).relu()

    def maps(a):
        a = (a.double() - shift) / scale
        one = conv(conv(a, 0), 2)
        two = conv(F.max_pool2d(one, 2), 5)
        three = conv(conv(conv(F.max_pool2d(two, 2), 8), 10), 12)
        return one, two, three

    want = 0.0
    for k, (a, b) in enumerate(zip(maps(x), maps(y))):
        unit = lambda t: t / t.norm(dim=1, keepdim=True).clamp_min(1e-10)
        want += (w[f"lin{k}.weight"] * (unit(a) - unit(b)) ** 2).sum(1).mean((1, 2)).mean().item()
    assert load_lpips(str(file), "", SMALL)(x, y).item() == pytest.approx(want, rel=1e-4)


def test_equal_images_are_at_no_distance_and_the_order_does_not_matter(file):
    lpips, (x, y) = load_lpips(str(file), "", SMALL), images()
    assert lpips(x, x) == 0
    assert lpips(x, y) > 0
    assert lpips(x, y) == pytest.approx(lpips(y, x).item(), rel=1e-5)


def test_only_the_reconstruction_gets_a_gradient_and_it_is_finite_on_flat_images(file):
    lpips, (x, y) = load_lpips(str(file), "", SMALL), images()
    x[0] = 0.0  # relu maps that are zero everywhere have no direction
    x, y = x.requires_grad_(), y.requires_grad_()
    lpips(x, y).backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().max() > 0
    assert y.grad is None
    assert not any(p.requires_grad for p in lpips.parameters())


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (16, 3)])
def test_images_smaller_than_the_pyramid_pass(file, size):
    assert torch.isfinite(load_lpips(str(file), "", SMALL)(*images(1, size)))


def test_the_right_hash_is_accepted_in_either_case(file):
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert load_lpips(str(file), sha256, SMALL) and load_lpips(str(file), sha256.upper(), SMALL)


def test_the_names_are_those_of_vgg_16():
    with torch.device("meta"):
        tensors = dict(Lpips().named_tensors())
    convs = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [n for n in tensors if n.endswith(".weight") and n.startswith("f")] == [
        f"features.{i}.weight" for i in convs
    ]
    assert sum(p.numel() for n, p in tensors.items() if n.startswith("f")) == 14_714_688
    assert [tuple(tensors[f"lin{k}.weight"].shape) for k in range(5)] == [(1, w[-1], 1, 1) for w in WIDTHS]


def test_a_missing_file_is_named_with_its_key(tmp_path):
    with pytest.raises(MissingError, match=r"\[codec\] losses.lpips_weights: no file .*gone.safetensors"):
        load_lpips(str(tmp_path / "gone.safetensors"), "")


def test_a_wrong_hash_is_named_with_its_key(file):
    with pytest.raises(MissingError, match=r"\[codec\] losses.lpips_sha256: .* expected 00ff"):
        load_lpips(str(file), "00ff", SMALL)


def test_a_file_of_another_format_is_refused(tmp_path):
    path = tmp_path / "vgg.safetensors"
    path.write_bytes(b"PK not a network")
    with pytest.raises(MissingError, match=r"losses.lpips_weights: .* is no safetensors file"):
        load_lpips(str(path), "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features.5.weight": None}, "'features.5.weight' is missing, expected"),
        (
            {"lin1.weight": torch.ones(1, 1, 1, 1)},
            r"'lin1.weight' is \(1, 1, 1, 1\), expected \(1, 4, 1, 1\)",
        ),
    ],
)
def test_a_file_that_holds_something_else_is_refused(weights, tmp_path, change, said):
    path = tmp_path / "vgg.safetensors"
    save_file({k: v for k, v in (weights | change).items() if v is not None}, path)
    with pytest.raises(MissingError, match=said):
        load_lpips(str(path), "", SMALL)


def test_a_codec_adds_the_perceptual_loss_of_its_file(file, make_codec, volumes, monkeypatch):
    monkeypatch.setattr("gen_codecs.vq_codec.load_lpips", lambda path, sha256: load_lpips(path, sha256, SMALL))
    found = []
    for weight in (0.0, 1.0, 3.0):
        losses = LossOptions(lpips=weight, lpips_weights=str(file))
        codec = make_codec(losses=losses, channels=2).train()
        assert [note for note in codec.notes() if "off" in note] == []
        assert ("sha256 is not set" in "".join(codec.notes())) == (weight > 0)
        names = set(codec.state_dict())
        step = Step(0, 0, 10, torch.Generator().manual_seed(0), torch.device("cpu"))
        found.append(next(codec.training_step(Batch(volumes(channels=2)), step)).losses)
        assert set(codec.state_dict()) == names  # the network is not stored with the codec
    assert "lpips" not in found[0]
    assert found[1]["lpips"] > 0
    assert found[2]["lpips"].item() == pytest.approx(3 * found[1]["lpips"].item(), rel=1e-5)


def test_a_codec_whose_file_is_missing_stops_at_the_first_step(tmp_path, make_codec, volumes):
    codec = make_codec(losses=LossOptions(lpips_weights=str(tmp_path / "gone.safetensors"))).train()
    step = Step(0, 0, 10, torch.Generator().manual_seed(0), torch.device("cpu"))
    with pytest.raises(MissingError, match="gone.safetensors"):
        next(codec.training_step(Batch(volumes()), step))
    codec.eval().decode(codec.encode(volumes()))  # but what is fitted works without it


# Volumes, by slices of the three axes


def mean_square(a, b):
    """A 2-D distance that is easily summed by hand; it insists on RGB images."""
    assert a.ndim == 4 and a.shape[1] == 3
    return (a - b).square().mean()


def test_the_distance_of_volumes_sums_over_axes_what_all_slices_say():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 1, 4, 6, 5, generator=g)
    whole = three_axis_distance(mean_square, x, y, 1.0, torch.Generator())
    assert whole.item() == pytest.approx(3 * (x - y).square().mean().item(), rel=1e-5)


def test_a_share_of_the_slices_of_each_axis_is_seen_and_others_are_not():
    seen = []
    x = torch.arange(4 * 6 * 10.0).view(1, 1, 4, 6, 10)

    def spy(a, b):
        seen.append(a)
        return a.new_zeros(())

    three_axis_distance(spy, x, x, 0.5, torch.Generator().manual_seed(1))
    assert [tuple(a.shape) for a in seen] == [(2, 3, 6, 10), (3, 3, 4, 10), (5, 3, 4, 6)]
    for a, axis in zip(seen, (2, 3, 4)):
        slices = [s.squeeze() for s in x.split(1, axis)]
        assert all(any(torch.equal(image[0], s) for s in slices) for image in a)
        assert len({image[0].sum().item() for image in a}) == len(a)  # none twice


def test_an_image_is_its_own_only_slice_and_channels_are_averaged():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 3, 2, 1, 7, 5, generator=g)
    want = (x - y).mean(1).square().mean().item()
    assert three_axis_distance(mean_square, x, y, 0.5, torch.Generator()).item() == pytest.approx(want, rel=1e-5)
