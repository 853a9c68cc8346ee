"""Codec forward pass and training step (f8, width 16): ours against the textbook formulation, same weights.

    OMP_NUM_THREADS=2 python benchmarks/codec_forward.py               # 16 x 112 x 112
    OMP_NUM_THREADS=2 python benchmarks/codec_forward.py --large       # 16 x 672 x 672, one round, no training

The peer is the plain network: replicate padding as a layer of its own, 3-D convolutions, GroupNorm and SiLU one after
the other, all (N, K) distances. Outputs are compared first, in float32, at the same codes: 1e-4.
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from harness import compare
from torch import Tensor, nn

from gen_codecs.blocks import ResidualBlock
from gen_codecs.vq_codec import VqCodec
from gen_codecs.vq_options import CodebookOptions, LossOptions, Vqvae
from gen_core.batch import Batch
from gen_core.engine.precision import autocast
from gen_core.trainable import Step
from gen_core.volume import VolumeSpec


class PlainConv(nn.Module):
    """Replicate padding, then a convolution."""

    def __init__(self, like: nn.Conv3d):
        super().__init__()
        self.pad = nn.ReplicationPad3d([p for p in reversed(like.pads) for _ in range(2)])
        self.conv = nn.Conv3d(like.in_channels, like.out_channels, like.kernel_size, like.stride)
        self.conv.load_state_dict(like.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pad(x))


class PlainUp(nn.Module):
    """Replicate padding, then a transposed convolution that crops the frame."""

    def __init__(self, like: nn.ConvTranspose3d):
        super().__init__()
        self.pad = nn.ReplicationPad3d(1)
        self.conv = nn.ConvTranspose3d(like.in_channels, like.out_channels, like.kernel_size, like.stride, like.padding)
        self.conv.load_state_dict(like.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pad(x))


class PlainBlock(nn.Module):
    def __init__(self, like: ResidualBlock):
        super().__init__()
        self.net = nn.Sequential(
            plain_norm(like.norm1), nn.SiLU(), PlainConv(like.conv1),
            plain_norm(like.norm2), nn.SiLU(), PlainConv(like.conv2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


def plain_norm(like: nn.GroupNorm) -> nn.GroupNorm:
    layer = nn.GroupNorm(like.num_groups, like.num_channels, like.eps)
    layer.load_state_dict(like.state_dict())
    return layer


class PlainCodec(nn.Module):
    """The same weights, laid out the textbook way."""

    def __init__(self, codec: VqCodec):
        super().__init__()
        down = [PlainConv(codec.encoder.stem)]
        for level in codec.encoder.levels:
            down += [PlainConv(level.resample), *(PlainBlock(b) for b in level.blocks)]
        down += [plain_norm(codec.encoder.norm), nn.SiLU(), PlainConv(codec.to_latent)]
        up = [PlainConv(codec.decoder.stem)]
        for level in codec.decoder.levels:
            up += [PlainUp(level.resample), *(PlainBlock(b) for b in level.blocks)]
        up += [plain_norm(codec.decoder.norm), nn.SiLU(), PlainConv(codec.decoder.head)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        self.register_buffer("codebook", codec.codebook.codebook.clone())

    def quantize(self, e: Tensor) -> Tensor:
        v = e.movedim(1, -1).flatten(0, -2)
        d = v.square().sum(1, keepdim=True) - 2 * v @ self.codebook.t() + self.codebook.square().sum(1)
        z_q = self.codebook[d.argmin(1)].view(e.shape[0], *e.shape[2:], e.shape[1])
        return z_q.movedim(-1, 1).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.quantize(self.encoder(x)))

    def step(self, x: Tensor) -> None:
        e = self.encoder(x)
        z_q = self.quantize(e)
        x_hat = self.decoder(e + (z_q - e).detach())
        (4 * F.l1_loss(x_hat, x) + 0.25 * F.mse_loss(e, z_q.detach())).backward()


def training_step(codec: VqCodec, x: Tensor, precision: str) -> None:
    """As the engine runs it, codebook update included."""
    step = Step(1, 0, 10, torch.Generator().manual_seed(0), x.device)
    with autocast(precision, x.device):
        item = next(codec.training_step(Batch(x), step))
    sum(item.losses.values()).backward()
    codec.updated("generator", step)


@torch.no_grad()
def forward(codec: VqCodec, x: Tensor, precision: str) -> Tensor:
    with autocast(precision, x.device):
        return codec.decode(codec.encode(x))


def main() -> None:
    large = "--large" in sys.argv
    side = 672 if large else 112
    torch.manual_seed(0)
    codec = VqCodec(
        Vqvae(losses=LossOptions(lpips=0.0), codebook=CodebookOptions(kmeans_iterations=2)),
        VolumeSpec((16, side, side)),
    )
    x = torch.rand(1, 1, 16, side, side) * 2 - 1
    with torch.no_grad():
        e = codec._e(x).movedim(1, -1).flatten(0, -2)
        codec.codebook.start(e, torch.Generator().manual_seed(0))
    plain = PlainCodec(codec)
    with torch.no_grad():
        z_q = plain.quantize(plain.encoder(x))
        gap = (plain.decoder(z_q) - codec.decoder(z_q)).abs().max()
        gap = max(gap, (plain.encoder(x) - codec._e(x)).abs().max())
    if not gap < 1e-4:
        raise SystemExit(f"the sides disagree by {gap:.2e}")
    inference = {
        "plain float32": lambda: torch.no_grad()(plain)(x),
        "ours float32": lambda: forward(codec, x, "float32"),
        "ours bf16": lambda: forward(codec, x, "bf16"),
    }
    compare(f"codec forward, 16 x {side} x {side}", inference, rounds=1 if large else 5, warmup=0 if large else 1)
    if large:
        return
    training = {
        "plain float32": lambda: plain.step(x),
        "ours float32": lambda: training_step(codec, x, "float32"),
        "ours bf16": lambda: training_step(codec, x, "bf16"),
    }
    compare(f"codec training step, 16 x {side} x {side}", training, rounds=5)


if __name__ == "__main__":
    main()
