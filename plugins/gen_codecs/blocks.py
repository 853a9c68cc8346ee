"""Building blocks of 3-D convolutional networks: convolutions that are right in bf16, norms, residual blocks.

Shape legend: x (B, C, D, H, W).
Source: He et al. 2016 (residual blocks); Wu & He 2018 (group normalization); Shi et al. 2016 (sub-pixel up-sampling).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import gcd, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Axes = tuple[int, int, int]


def factor_stride(stride: Axes, levels: int = 0) -> list[Axes]:
    """The stride of each level; their product is `stride`, and the first levels take the larger share.

    (8, 8, 8) -> 3 x (2, 2, 2); (4, 8, 8) -> 2 x (2, 2, 2), (1, 2, 2); (16, 4, 4) in 2 levels -> 2 x (4, 2, 2).
    """
    exponents = [s.bit_length() - 1 for s in stride]
    if any(1 << e != s for e, s in zip(exponents, stride)):
        raise ValueError(f"stride {stride}: each axis must be a power of two")
    levels = levels or max(exponents)
    share = lambda e, i: 1 << (e // levels + (i < e % levels))
    return [tuple(share(e, i) for e in exponents) for i in range(levels)]  # type: ignore[misc]


def _half_is_right(
    channels: tuple[int, int], kernel: Sequence[int], stride: Sequence[int], size: Sequence[int], out: Sequence[int]
) -> bool:
    """Whether torch's CPU 3-D convolution can be trusted in bf16 with this shape.

    Measured with torch 2.13 (oneDNN), one and two threads, against float32: where the kernel is larger than the input,
    or the input has 512 channels and more, the weight gradient can be garbage or NaN; where the output is one column
    wide, or a wide kernel takes strides of 4, the output is. With 8 channels and less, backward at 336 x 336 and more
    ends the process (segmentation fault), and bf16 gains nothing there.
    """
    fits = all(k <= n for k, n in zip(kernel, size))
    return fits and min(channels) >= 16 and channels[0] <= 256 and min(size[-1], out[-1]) > 1 and max(stride) <= 2


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` with "same" padding (kernel - stride, in halves; or `pads`), zeros or replicate.

    In bf16 on the CPU, shapes whose result would be silently wrong run in float32. On volumes of depth 1 the kernel
    collapses to one slice beforehand: exact, and three times cheaper.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: Axes,
        stride: Axes = (1, 1, 1),
        padding: str = "zeros",
        pads: Axes | None = None,
    ):
        pads = pads or tuple((k - s + 1) // 2 for k, s in zip(kernel, stride))
        super().__init__(channels_in, channels_out, kernel, stride, pads if padding == "zeros" else 0)
        self.pads = pads
        self.replicate = padding == "replicate" and any(pads)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] == 1 and self.stride[0] == 1:
            return self._on_images(x[:, :, 0])[:, :, None]
        around = [p * self.replicate for p in self.pads]
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            kernel, size = self.kernel_size, [n + 2 * p for n, p in zip(x.shape[2:], around)]
            out = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(size, self.padding, kernel, self.stride)]
            right = _half_is_right((self.in_channels, self.out_channels), kernel, self.stride, size, out)
            # converted first: autocast pads in float32, which copies twice as much and converts after it
            x = x.to(torch.get_autocast_dtype("cpu") if right else torch.float32)
            with torch.autocast("cpu", enabled=False):
                x = self._framed(x, around)
                if not right:
                    return F.conv3d(x, self.weight, self.bias, self.stride, self.padding)
        else:
            x = self._framed(x, around)
        return F.conv3d(x, self.weight, self.bias, self.stride, self.padding)

    @staticmethod
    def _framed(x: Tensor, around: Sequence[int]) -> Tensor:
        """x with its outermost voxels repeated outwards."""
        d, h, w = around
        return F.pad(x, (w, w, h, h, d, d), mode="replicate") if any(around) else x

    def _on_images(self, x: Tensor) -> Tensor:
        """Depth 1, x (B, C, H, W): every slice that the kernel sees is the same slice, or zero.

        A 2-D convolution, not a 3-D one of depth 1: with one thread and 512 channels torch 2.13's bf16 weight
        gradient of the latter is NaN.
        """
        weight = self.weight.sum(2) if self.replicate else self.weight[:, :, self.pads[0]]
        if self.replicate:
            x = F.pad(x, (self.pads[2], self.pads[2], self.pads[1], self.pads[1]), mode="replicate")
        return F.conv2d(x, weight, self.bias, self.stride[1:], self.padding[1:])


class PadDownConv3d(Conv3d):
    """Kernel 3; axes of stride 2 get one layer of zeros behind, so that n becomes n / 2 (Rombach et al. 2022)."""

    def __init__(self, channels_in: int, channels_out: int, stride: Axes):
        self.behind = tuple(int(s > 1) for s in stride)
        pads = tuple(1 - b for b in self.behind)
        super().__init__(channels_in, channels_out, (3, 3, 3), stride, pads=pads)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        d, h, w = self.behind
        return super().forward(F.pad(x, (0, w, 0, h, 0, d)))


class RepeatUpConv3d(nn.Module):
    """Up-sampling by repetition, or linear, and a convolution of kernel 3."""

    def __init__(self, channels_in: int, channels_out: int, stride: Axes, linear: bool = False):
        super().__init__()
        self.stride, self.linear = stride, linear
        self.conv = Conv3d(channels_in, channels_out, (3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        if self.linear:
            scale = [float(s) for s in self.stride]
            return self.conv(F.interpolate(x, scale_factor=scale, mode="trilinear", align_corners=False))
        return self.conv(repeat_voxels(x, self.stride))


def repeat_voxels(x: Tensor, stride: Axes) -> Tensor:
    """Nearest-neighbour up-sampling; by views, whose gradient is a plain sum and thus deterministic on every device."""
    b, c, d, h, w = x.shape
    sd, sh, sw = stride
    x = x[:, :, :, None, :, None, :, None].expand(b, c, d, sd, h, sh, w, sw)
    return x.reshape(b, c, d * sd, h * sh, w * sw)


def pad_up(x: Tensor, stride: Sequence[int]) -> Tensor:
    """x with its last voxels repeated until every axis is divisible by `stride`."""
    d, h, w = (-n % s for n, s in zip(x.shape[2:], stride))
    return F.pad(x, (0, w, 0, h, 0, d), mode="replicate") if d or h or w else x


class UpConv3d(nn.ConvTranspose3d):
    """Transposed convolution that multiplies each axis by `stride` exactly; kernel 2 x stride (3 where it is 1)."""

    def __init__(self, channels_in: int, channels_out: int, stride: Axes, padding: str = "zeros"):
        kernel = resample_kernel(stride)
        self.replicate = padding == "replicate"
        pads = tuple((k - s) // 2 + (s if self.replicate else 0) for k, s in zip(kernel, stride))
        super().__init__(channels_in, channels_out, kernel, stride, pads)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        weight, padding, frame = self.weight, self.padding, (1, 1, 1)
        if x.shape[2] == 1 and self.stride[0] == 1:  # depth 1 stays: one slice of the kernel does it all
            weight = weight.sum(2, keepdim=True) if self.replicate else weight[:, :, 1:2]
            padding, frame = (0, *padding[1:]), (0, 1, 1)
        if self.replicate:
            d, h, w = frame
            x = F.pad(x, (w, w, h, h, d, d), mode="replicate")  # the frame is cropped again by `padding`
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            kernel, size = weight.shape[2:], x.shape[2:]
            out = [(n - 1) * s - 2 * p + k for n, p, k, s in zip(size, padding, kernel, self.stride)]
            # the gradient is a convolution of `out`
            if not _half_is_right((self.in_channels, self.out_channels), kernel, self.stride, out, size):
                with torch.autocast("cpu", enabled=False):
                    return F.conv_transpose3d(x.float(), weight, self.bias, self.stride, padding)
        return F.conv_transpose3d(x, weight, self.bias, self.stride, padding)


def resample_kernel(stride: Axes) -> Axes:
    """Kernel 4 for stride 2, 8 for stride 4, and 3 along axes that keep their size."""
    return tuple(2 * s if s > 1 else 3 for s in stride)  # type: ignore[return-value]


def space_to_depth(x: Tensor, stride: Axes) -> Tensor:
    """(B, C, D, H, W) -> (B, C sd sh sw, D / sd, H / sh, W / sw); exact inverse: `depth_to_space`."""
    b, c, d, h, w = x.shape
    sd, sh, sw = stride
    x = x.view(b, c, d // sd, sd, h // sh, sh, w // sw, sw)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * sd * sh * sw, d // sd, h // sh, w // sw)


def depth_to_space(x: Tensor, stride: Axes) -> Tensor:
    """(B, C sd sh sw, d, h, w) -> (B, C, d sd, h sh, w sw)."""
    b, c, d, h, w = x.shape
    sd, sh, sw = stride
    x = x.view(b, c // prod(stride), sd, sh, sw, d, h, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // prod(stride), d * sd, h * sh, w * sw)


class GroupNorm(nn.GroupNorm):
    """Group normalization that also takes a single voxel in a group (it becomes the bias)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class BatchNorm(nn.BatchNorm3d):
    """Batch normalization that also takes a single value a channel: it has no spread, so the running one serves."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == self.num_features:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, batch norms do not update their running statistics: for a forward pass that is only a repetition."""
    # not track_running_stats = False: the pass would save other tensors than the one it repeats
    norms = [(m, m.momentum, m.num_batches_tracked.clone()) for m in module.modules() if isinstance(m, BatchNorm)]
    for m, _, _ in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum, seen in norms:
            m.momentum = momentum
            m.num_batches_tracked.copy_(seen)


def norm(kind: str, channels: int, groups: int = 32) -> nn.Module:
    """Normalization over (C / groups, D, H, W), over the batch, or per channel ("instance", without weights)."""
    if kind == "batch":
        return BatchNorm(channels)
    if kind == "instance":
        return GroupNorm(channels, channels, affine=False)
    return GroupNorm(gcd(groups, channels), channels, eps=1e-6)


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x) of a tensor that nobody else needs: in its place, unless a gradient is wanted."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), both kernels 3 x 3 x 3; x by a 1 x 1 x 1 one where channels change."""

    def __init__(self, channels: int, kind: str, groups: int, padding: str, channels_out: int = 0):
        super().__init__()
        out = channels_out or channels
        self.norm1 = norm(kind, channels, groups)
        self.conv1 = Conv3d(channels, out, (3, 3, 3), padding=padding)
        self.norm2 = norm(kind, out, groups)
        self.conv2 = Conv3d(out, out, (3, 3, 3), padding=padding)
        self.shortcut = nn.Identity() if out == channels else Conv3d(channels, out, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        a = silu(self.norm2(h))
        del h  # one map less beside the convolution, where no gradient keeps it
        return self.shortcut(x) + self.conv2(a)
