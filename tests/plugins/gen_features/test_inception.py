"""The FID Inception network: key by key, layer by layer, and the two ways of resizing."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, batch_norm, conv2d, max_pool2d, relu

from gen_core.errors import DataError, MissingError
from gen_core.features import FeaturesContext
from gen_core.testing import check_features
from gen_core.volume import VolumeSpec
from gen_features.inception_options import PUBLISHED_SHA256
from gen_features.inception_options import InceptionV3 as Options
from gen_features.inception_v3 import InceptionNetwork, _resize_tf1, build

# The layout of pt_inception-2015-12-05, stated anew: name -> (out, in, kernel height, kernel width).
STEM = {
    "Conv2d_1a_3x3": (32, 3, 3, 3),
    "Conv2d_2a_3x3": (32, 32, 3, 3),
    "Conv2d_2b_3x3": (64, 32, 3, 3),
    "Conv2d_3b_1x1": (80, 64, 1, 1),
    "Conv2d_4a_3x3": (192, 80, 3, 3),
}


def layout():
    found = dict(STEM)
    for block, cin, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        found |= {
            f"Mixed_{block}.branch1x1": (64, cin, 1, 1),
            f"Mixed_{block}.branch5x5_1": (48, cin, 1, 1),
            f"Mixed_{block}.branch5x5_2": (64, 48, 5, 5),
            f"Mixed_{block}.branch3x3dbl_1": (64, cin, 1, 1),
            f"Mixed_{block}.branch3x3dbl_2": (96, 64, 3, 3),
            f"Mixed_{block}.branch3x3dbl_3": (96, 96, 3, 3),
            f"Mixed_{block}.branch_pool": (pooled, cin, 1, 1),
        }
    found |= {
        "Mixed_6a.branch3x3": (384, 288, 3, 3),
        "Mixed_6a.branch3x3dbl_1": (64, 288, 1, 1),
        "Mixed_6a.branch3x3dbl_2": (96, 64, 3, 3),
        "Mixed_6a.branch3x3dbl_3": (96, 96, 3, 3),
    }
    for block, c in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        found |= {
            f"Mixed_{block}.branch1x1": (192, 768, 1, 1),
            f"Mixed_{block}.branch7x7_1": (c, 768, 1, 1),
            f"Mixed_{block}.branch7x7_2": (c, c, 1, 7),
            f"Mixed_{block}.branch7x7_3": (192, c, 7, 1),
            f"Mixed_{block}.branch7x7dbl_1": (c, 768, 1, 1),
            f"Mixed_{block}.branch7x7dbl_2": (c, c, 7, 1),
            f"Mixed_{block}.branch7x7dbl_3": (c, c, 1, 7),
            f"Mixed_{block}.branch7x7dbl_4": (c, c, 7, 1),
            f"Mixed_{block}.branch7x7dbl_5": (192, c, 1, 7),
            f"Mixed_{block}.branch_pool": (192, 768, 1, 1),
        }
    found |= {
        "Mixed_7a.branch3x3_1": (192, 768, 1, 1),
        "Mixed_7a.branch3x3_2": (320, 192, 3, 3),
        "Mixed_7a.branch7x7x3_1": (192, 768, 1, 1),
        "Mixed_7a.branch7x7x3_2": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_3": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4": (192, 192, 3, 3),
    }
    for block, cin in (("7b", 1280), ("7c", 2048)):
        found |= {
            f"Mixed_{block}.branch1x1": (320, cin, 1, 1),
            f"Mixed_{block}.branch3x3_1": (384, cin, 1, 1),
            f"Mixed_{block}.branch3x3_2a": (384, 384, 1, 3),
            f"Mixed_{block}.branch3x3_2b": (384, 384, 3, 1),
            f"Mixed_{block}.branch3x3dbl_1": (448, cin, 1, 1),
            f"Mixed_{block}.branch3x3dbl_2": (384, 448, 3, 3),
            f"Mixed_{block}.branch3x3dbl_3a": (384, 384, 1, 3),
            f"Mixed_{block}.branch3x3dbl_3b": (384, 384, 3, 1),
            f"Mixed_{block}.branch_pool": (192, cin, 1, 1),
        }
    return found


@pytest.fixture(scope="module")
def state():
    """Random weights in the file's layout, scaled so that the signal neither dies nor grows."""
    g, found = torch.Generator().manual_seed(0), {}
    for name, shape in layout().items():
        fan = shape[1] * shape[2] * shape[3]
        found[f"{name}.conv.weight"] = torch.randn(shape, generator=g) * (2 / fan) ** 0.5
        found[f"{name}.bn.weight"] = 1 + 0.1 * torch.randn(shape[0], generator=g)
        found[f"{name}.bn.bias"] = 0.1 * torch.randn(shape[0], generator=g)
        found[f"{name}.bn.running_mean"] = 0.1 * torch.randn(shape[0], generator=g)
        found[f"{name}.bn.running_var"] = 0.5 + torch.rand(shape[0], generator=g)
        found[f"{name}.bn.num_batches_tracked"] = torch.tensor(0)
    found["fc.weight"] = torch.zeros(1008, 2048)
    found["fc.bias"] = torch.zeros(1008)
    return found


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    """The file as published: a stream of torch.save from before its zip archives."""
    path = tmp_path_factory.mktemp("weights") / "pt_inception-2015-12-05.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def network(path, **changes):
    return build(Options(weights=str(path), sha256=sha(path), **changes), FeaturesContext(VolumeSpec((6, 24, 28))))


@pytest.fixture(scope="module")
def net(file):
    return network(file)


def oracle(state, x):
    """The whole network once more, function by function and without folding. x (B, 3, 299, 299)."""

    def conv(x, name, stride=1, padding=0):
        h = conv2d(x, state[f"{name}.conv.weight"], None, stride, padding)
        parts = [state[f"{name}.bn.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return relu(batch_norm(h, *parts, False, 0.0, 1e-3))

    def chain(x, block, *names):
        for name in names:
            kh, kw = state[f"{block}.{name}.conv.weight"].shape[2:]
            x = conv(x, f"{block}.{name}", padding=(kh // 2, kw // 2))
        return x

    mean = lambda x: avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = conv(x, "Conv2d_1a_3x3", 2)
    x = conv(conv(x, "Conv2d_2a_3x3"), "Conv2d_2b_3x3", padding=1)
    x = conv(conv(max_pool2d(x, 3, 2), "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
    x = max_pool2d(x, 3, 2)
    for b in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        double = chain(x, b, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        five = chain(x, b, "branch5x5_1", "branch5x5_2")
        x = torch.cat([chain(x, b, "branch1x1"), five, double, chain(mean(x), b, "branch_pool")], 1)
    b = "Mixed_6a"
    double = conv(chain(x, b, "branch3x3dbl_1", "branch3x3dbl_2"), f"{b}.branch3x3dbl_3", 2)
    x = torch.cat([conv(x, f"{b}.branch3x3", 2), double, max_pool2d(x, 3, 2)], 1)
    for b in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        seven = chain(x, b, *(f"branch7x7_{i}" for i in (1, 2, 3)))
        double = chain(x, b, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)))
        x = torch.cat([chain(x, b, "branch1x1"), seven, double, chain(mean(x), b, "branch_pool")], 1)
    b = "Mixed_7a"
    three = conv(chain(x, b, "branch3x3_1"), f"{b}.branch3x3_2", 2)
    seven = conv(chain(x, b, *(f"branch7x7x3_{i}" for i in (1, 2, 3))), f"{b}.branch7x7x3_4", 2)
    x = torch.cat([three, seven, max_pool2d(x, 3, 2)], 1)
    for b, pool in (("Mixed_7b", mean), ("Mixed_7c", lambda x: max_pool2d(x, 3, 1, 1))):
        three, double = chain(x, b, "branch3x3_1"), chain(x, b, "branch3x3dbl_1", "branch3x3dbl_2")
        parts = [chain(three, b, "branch3x3_2a"), chain(three, b, "branch3x3_2b")]
        parts += [chain(double, b, "branch3x3dbl_3a"), chain(double, b, "branch3x3dbl_3b")]
        x = torch.cat([chain(x, b, "branch1x1"), *parts, chain(pool(x), b, "branch_pool")], 1)
    return adaptive_avg_pool2d(x, 1).flatten(1)


def tf1(x):
    """TensorFlow 1's bilinear resize in a loop over pixels. x (H, W) float64 -> (299, 299)."""
    out = np.empty((299, 299))
    h, w = x.shape
    for i in range(299):
        for j in range(299):
            r, c = i * h / 299, j * w / 299
            r0, c0 = int(r), int(c)
            r1, c1, a, b = min(r0 + 1, h - 1), min(c0 + 1, w - 1), r - r0, c - c0
            out[i, j] = (1 - a) * ((1 - b) * x[r0, c0] + b * x[r0, c1]) + a * ((1 - b) * x[r1, c0] + b * x[r1, c1])
    return out


def levels(*shape):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def test_the_layers_are_those_of_the_published_file():
    assert {name: tuple(conv.weight.shape) for name, conv in InceptionNetwork().convolutions()} == layout()
    assert len(layout()) == 94


def test_it_keeps_the_contract(net):
    assert net.dim == 2048 and net.takes == "image" and not net.fitted
    check_features(net, torch.rand(2, 3, 24, 31, generator=torch.Generator().manual_seed(1)) * 2 - 1)


def test_features_are_those_of_the_network_stated_anew(net, state):
    pixels = levels(1, 3, 20, 33)
    resized = np.stack([[tf1(c.numpy().astype(np.float64)) for c in image] for image in pixels])
    with torch.no_grad():
        expected = oracle(state, torch.from_numpy((resized - 128) / 128).float())
    assert float(expected.std()) > 0.1  # the signal got through
    torch.testing.assert_close(net.features(pixels / 127.5 - 1), expected, atol=2e-5, rtol=1e-4)


def test_features_are_those_of_torch_fidelity(net, file):
    pytest.importorskip("torchvision", exc_type=ImportError)
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", exc_type=ImportError)
    extractor = theirs.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(file)
    ).eval()
    pixels = levels(2, 3, 40, 31)
    with torch.no_grad():
        (expected,) = extractor(pixels)
    torch.testing.assert_close(net.features(pixels / 127.5 - 1), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("h, w", [(7, 13), (299, 299), (400, 31), (1, 1)])
def test_the_legacy_resize_is_its_formula(h, w):
    x = torch.rand(1, 1, h, w, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(_resize_tf1(x)[0, 0], torch.from_numpy(tf1(x[0, 0].numpy())))


def test_pytorch_fid_resizes_by_pixel_centres(file):
    net, x = network(file, resize="pytorch-fid", eight_bit=False), torch.rand(1, 3, 10, 12) * 2 - 1
    treated = net._treat(x)
    centre = lambda i, n: min(max((i + 0.5) * n / 299 - 0.5, 0), n - 1)
    for i, j in ((0, 0), (150, 77), (298, 298), (20, 260)):
        r, c = centre(i, 10), centre(j, 12)
        r0, c0 = int(r), int(c)
        r1, c1, a, b = min(r0 + 1, 9), min(c0 + 1, 11), r - r0, c - c0
        v = x[0, 0].double()
        expected = (1 - a) * ((1 - b) * v[r0, c0] + b * v[r0, c1]) + a * ((1 - b) * v[r1, c0] + b * v[r1, c1])
        assert float(treated[0, 0, i, j]) == pytest.approx(float(expected), abs=1e-5)
    assert not torch.allclose(treated, network(file)._treat(x), atol=1e-2)


def test_images_are_rounded_to_256_levels_or_not(net, file):
    x = torch.full((1, 3, 8, 8), 0.1)
    assert float(net._treat(x)[0, 0, 0, 0]) == pytest.approx((round(1.1 * 127.5) - 128) / 128)
    exact = network(file, eight_bit=False)
    assert float(exact._treat(x)[0, 0, 0, 0]) == pytest.approx((1.1 * 127.5 - 128) / 128, abs=1e-6)


def test_bands_resized_once_give_the_features_of_their_triplets(net):
    bands = torch.rand(5, 18, 23, generator=torch.Generator().manual_seed(4)) * 2 - 1
    picks = torch.tensor([[4, 2, 0], [3, 1, 0]])
    found = net.features_of_triplets(net.prepare_bands(bands), picks)
    torch.testing.assert_close(found, net.features(bands[picks]), atol=1e-5, rtol=1e-5)


def test_bf16_is_near_and_another_protocol(net, file):
    fast, x = network(file, precision="bf16"), torch.rand(2, 3, 30, 30) * 2 - 1
    a, b = net.features(x), fast.features(x)
    assert b.dtype == torch.float32 and float((a - b).norm() / a.norm()) < 0.03
    assert fast.protocol() != net.protocol() and net.protocol()["sha256"] == sha(file)


def test_safetensors_of_the_same_weights_give_the_same_features(net, state, tmp_path):
    path = tmp_path / "inception.safetensors"
    kept = {k: v for k, v in state.items() if not k.startswith("fc.") and "tracked" not in k}
    save_file(kept, path)
    x = levels(1, 3, 16, 16) / 127.5 - 1
    assert torch.equal(network(path).features(x), net.features(x))


def test_missing_weights_are_exit_code_three(tmp_path):
    context = FeaturesContext(VolumeSpec((6, 24, 28)))
    for weights, message in (("", "needs weights = "), (str(tmp_path / "absent.pth"), "no such file")):
        with pytest.raises(MissingError, match=message) as caught:
            build(Options(weights=weights), context)
        assert caught.value.exit_code == 3
    assert Options().sha256 == PUBLISHED_SHA256 and PUBLISHED_SHA256.startswith("6726825d")


def test_another_file_than_the_published_one_must_be_named_by_its_hash(file):
    with pytest.raises(MissingError, match=f"SHA-256 {sha(file)}, expected {PUBLISHED_SHA256}"):
        build(Options(weights=str(file)), FeaturesContext(VolumeSpec((6, 24, 28))))


def test_keys_and_shapes_that_do_not_fit_are_named(state, tmp_path):
    wrong = dict(state)
    del wrong["Mixed_6a.branch3x3.bn.bias"]
    wrong["AuxLogits.conv0.conv.weight"] = torch.zeros(2)
    wrong["Conv2d_1a_3x3.conv.weight"] = torch.zeros(32, 1, 3, 3)
    path = tmp_path / "wrong.pth"
    torch.save(wrong, path)
    with pytest.raises(DataError) as caught:
        network(path)
    for part in ("missing: Mixed_6a.branch3x3.bn.bias", "unexpected: AuxLogits.conv0.conv.weight", "Conv2d_1a_3x3"):
        assert part in str(caught.value)


def test_other_shapes_and_hashes_are_refused(net):
    with pytest.raises(ValueError, match="takes \\(B, 3, H, W\\)"):
        net.features(torch.zeros(1, 1, 20, 20))
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Options(sha256="6726825d")
