"""Inception-v3 as published FID values use it: RGB images to 2048 features, from a file of pytorch-fid's layout.

Source: Szegedy et al. 2016, "Rethinking the Inception architecture", figures 5-7 and table 1. The FID variant (Heusel
et al. 2017; the TensorFlow graph of 2015-12-05) averages over the places inside the image only, takes the maximum
instead of the mean in its last block, and ends in 1008 classes, which features do not need.

For speed batch norms are folded into the convolutions when weights are loaded, and channels lie last in memory. Bands
are resized once, then gathered: resizing knows no channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, linear, max_pool2d

from gen_core.errors import DataError, MissingError
from gen_core.features import FeatureNetwork, FeaturesContext
from gen_core.foreign_weights import read_state
from gen_features.inception_options import InceptionV3 as Options

SIZE = 299  # pixels of an image as the network sees it
BN_EPS = 1e-3
IMAGES = 16  # at once: the first maps of more no longer fit the processor's caches
TABLE = "[features] inception-v3"

Pair = tuple[int, int]


class Conv(nn.Module):
    """Convolution with its batch norm folded in, then a rectifier. Filled by `load`."""

    def __init__(self, cin: int, cout: int, kernel: int | Pair = 1, stride: int = 1, padding: int | Pair = 0):
        super().__init__()
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.stride, self.padding, self.pointwise = stride, padding, kh == kw == stride == 1
        self.register_buffer("weight", torch.zeros(cout, cin, kh, kw))
        self.register_buffer("bias", torch.zeros(cout))

    def forward(self, x: Tensor) -> Tensor:
        if self.pointwise:
            # with channels last this is one matrix product without any copy
            flat = linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias)
            return flat.relu_().permute(0, 3, 1, 2)
        return conv2d(x, self.weight, self.bias, self.stride, self.padding).relu_()

    def load(self, take: Callable[[str], Tensor]) -> None:
        """take(name) gives the file's tensor of this layer; the fold is done in float64."""
        kernel, gamma, beta, mean, var = (
            take(name).double() for name in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
        )
        if kernel.shape != self.weight.shape or any(v.shape != self.bias.shape for v in (gamma, beta, mean, var)):
            raise DataError(f"is of shape {tuple(kernel.shape)}, expected {tuple(self.weight.shape)}")
        factor = gamma / (var + BN_EPS).sqrt()
        self.weight.copy_(kernel * factor[:, None, None, None])
        self.bias.copy_(beta - mean * factor)


def _mean3(x: Tensor) -> Tensor:
    """Mean of the 3 x 3 places around each that lie inside the image: the FID variant."""
    return avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _max3(x: Tensor) -> Tensor:
    return max_pool2d(x, 3, 1, 1)


class BlockA(nn.Module):
    """35 x 35: figure 5, with a 5 x 5 branch."""

    def __init__(self, cin: int, pooled: int):
        super().__init__()
        self.branch1x1 = Conv(cin, 64)
        self.branch5x5_1, self.branch5x5_2 = Conv(cin, 48), Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(cin, 64)
        self.branch3x3dbl_2, self.branch3x3dbl_3 = Conv(64, 96, 3, padding=1), Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(cin, pooled)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch1x1(x), five, double, self.branch_pool(_mean3(x))), 1)


class BlockB(nn.Module):
    """35 -> 17: figure 10."""

    def __init__(self, cin: int):
        super().__init__()
        self.branch3x3 = Conv(cin, 384, 3, 2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(cin, 64), Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, max_pool2d(x, 3, 2)), 1)


class BlockC(nn.Module):
    """17 x 17: figure 6 with n = 7; `c` channels inside."""

    def __init__(self, cin: int, c: int):
        super().__init__()
        wide, tall = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Conv(cin, 192)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = Conv(cin, c), Conv(c, c, **wide), Conv(c, 192, **tall)
        self.branch7x7dbl_1 = Conv(cin, c)
        self.branch7x7dbl_2, self.branch7x7dbl_3 = Conv(c, c, **tall), Conv(c, c, **wide)
        self.branch7x7dbl_4, self.branch7x7dbl_5 = Conv(c, c, **tall), Conv(c, 192, **wide)
        self.branch_pool = Conv(cin, 192)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((self.branch1x1(x), seven, double, self.branch_pool(_mean3(x))), 1)


class BlockD(nn.Module):
    """17 -> 8."""

    def __init__(self, cin: int):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(cin, 192), Conv(192, 320, 3, 2)
        self.branch7x7x3_1 = Conv(cin, 192)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat((three, self.branch7x7x3_4(seven), max_pool2d(x, 3, 2)), 1)


class BlockE(nn.Module):
    """8 x 8: figure 7. `pool`: the mean in the first of the two, the maximum in the second."""

    def __init__(self, cin: int, pool: Callable[[Tensor], Tensor]):
        super().__init__()
        self.pool = pool
        self.branch1x1 = Conv(cin, 320)
        self.branch3x3_1 = Conv(cin, 384)
        self.branch3x3_2a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(cin, 448), Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Conv(cin, 192)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = self.branch_pool(self.pool(x))
        parts = (self.branch3x3_2a(three), self.branch3x3_2b(three))
        parts += (self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double))
        return torch.cat((self.branch1x1(x), *parts, pooled), 1)


class InceptionNetwork(nn.Module):
    """Images (B, 3, 299, 299) in about [-1, 1] -> (B, 2048), the mean of the last 8 x 8 maps. Names are the file's."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Conv(3, 32, 3, 2), Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80), Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(768, 128), BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = BlockC(768, 160), BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, _mean3), BlockE(2048, _max3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.float().mean((2, 3))

    def convolutions(self) -> Iterator[tuple[str, Conv]]:
        """Every convolution under the name that the file gives it."""
        return ((name, module) for name, module in self.named_modules() if isinstance(module, Conv))

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take all weights from a file of pytorch-fid's layout; every key must fit. Raises: DataError naming them.

        The classifier (fc.*) and the counters of batch norms, which no feature needs, may be there or not.
        """
        left = {k for k in tensors if not k.startswith("fc.") and not k.endswith(".num_batches_tracked")}
        missing, unequal = [], []
        for name, conv in self.convolutions():
            keys = [f"{name}.{part}" for part in PARTS]
            lacking = [key for key in keys if key not in tensors]
            missing += lacking
            left -= set(keys)
            if lacking:
                continue
            try:
                conv.load(lambda part, name=name: tensors[f"{name}.{part}"])
            except DataError as error:
                unequal.append(f"{name}.conv.weight {error}")
        wrong = [("missing", missing), ("unexpected", sorted(left)), ("of another shape", unequal)]
        if any(names for _, names in wrong):
            said = "; ".join(f"{what}: {_some(names)}" for what, names in wrong if names)
            raise DataError(f"no weights of the FID Inception network; {said}")


PARTS = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


def _some(names: list[str], n: int = 4) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


class InceptionV3(FeatureNetwork):
    """RGB images or band triplets (B, 3, H, W) -> the 2048 features of FID.

    Raises: MissingError (exit code 3) when the weights file is not there or another one; DataError when it is broken.
    """

    takes = "image"
    dim = 2048
    fitted = False

    def __init__(self, options: Options):
        super().__init__()
        if not options.weights:
            raise MissingError(
                f'{TABLE} needs weights = "PATH" of pt_inception-2015-12-05-6726825d.pth (pytorch-fid) or the same '
                "file of torch-fidelity; nothing is downloaded. random-conv64 needs no file"
            )
        self.options = options
        self.network = InceptionNetwork()
        try:
            self.network.load(read_state(options.weights, options.sha256, f"{TABLE}: weights"))
        except DataError as error:
            if str(error).startswith(TABLE):
                raise
            raise DataError(f"{TABLE}: weights = '{options.weights}': {error}") from error
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        self.network.to(dtype=dtype, memory_format=torch.channels_last)
        self.eval()

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] -> (B, 2048) float32. Raises: ValueError for other shapes."""
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"inception-v3 takes (B, 3, H, W), got {tuple(x.shape)}")
        return torch.cat([self._run(self._treat(part)) for part in x.split(IMAGES)])

    @torch.no_grad()
    def prepare_bands(self, bands: Tensor) -> Tensor:
        """bands (D, H, W) in [-1, 1] -> (D, 299, 299), as the network wants them: once for all triplets of a volume."""
        return self._treat(bands[None])[0]

    @torch.no_grad()
    def features_of_triplets(self, prepared: Tensor, picks: Tensor) -> Tensor:
        """prepared (D, 299, 299), picks (N, 3) band indices -> (N, 2048), equal to `features(bands[picks])`."""
        return torch.cat([self._run(prepared[part]) for part in picks.split(IMAGES)])

    def _run(self, x: Tensor) -> Tensor:
        weight = self.network.Conv2d_1a_3x3.weight
        return self.network(x.to(weight.dtype).contiguous(memory_format=torch.channels_last))

    def _treat(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) in [-1, 1] to 299 x 299 pixels, each channel for itself, in the chosen package's way."""
        x = (x.float().clamp(-1.0, 1.0) + 1.0) * 127.5
        if self.options.eight_bit:
            x = x.round()
        if self.options.resize == "torch-fidelity":
            # the graph of 2015: resize in 0..255, then (x - 128) / 128
            return (_resize_tf1(x) - 128.0) / 128.0
        return interpolate(x / 255.0, (SIZE, SIZE), mode="bilinear", align_corners=False) * 2.0 - 1.0

    def protocol(self) -> dict[str, Any]:
        o = self.options
        return {
            "name": "inception-v3",
            "sha256": o.sha256,
            "resize": f"bilinear to {SIZE} x {SIZE} as {o.resize}",
            "levels": 256 if o.eight_bit else "continuous",
            "precision": o.precision,
            "input": "3 channels in [-1, 1]",
            "statistics": "pool3: mean over positions of the last maps, 2048 features",
        }


def _resize_tf1(x: Tensor) -> Tensor:
    """Bilinear as TensorFlow 1 did it: output pixel i looks at i * in / out, the corners of pixels as their places."""
    return _tf1_matrix(x.shape[2], x) @ x @ _tf1_matrix(x.shape[3], x).T


def _tf1_matrix(n: int, like: Tensor) -> Tensor:
    """(299, n): row i holds the weights of the two pixels around i * n / 299; the last pixel is repeated."""
    at = torch.arange(SIZE, dtype=torch.float64) * (n / SIZE)
    low = at.floor().long().clamp(max=n - 1)
    part = at - low
    matrix = torch.zeros(SIZE, n, dtype=torch.float64)
    rows = torch.arange(SIZE)
    matrix[rows, low] += 1 - part
    matrix[rows, (low + 1).clamp(max=n - 1)] += part
    return matrix.to(like)


def build(options: Options, context: FeaturesContext) -> InceptionV3:
    """The network of a recipe's table."""
    return InceptionV3(options)
