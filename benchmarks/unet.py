"""U-Net forward and training step: `ddpm3d` against the textbook formulation with the same weights.

    python benchmarks/unet.py                    # float32 and bf16, base 64 and 128, the quickstart's small net
    python benchmarks/unet.py --only small       # names that contain a word

The peer is the plain video U-Net: 5-D convolutions, GroupNorm, scale, shift and SiLU one after the other,
attention as matrix products with rearranged copies, one Linear a block for the time. Outputs are compared first:
float32 within 4e-6 of the largest value (1.6e-6 at base 64, 2 to 3e-6 at base 128: the library's channels-last
kernels add in another order; each side lies within 2.5e-6 of float64).
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_core.batch import Batch
from gen_core.prior import PriorContext
from gen_core.trainable import Step
from gen_diffusion.attention import relative_buckets, rotary_table
from gen_diffusion.ddpm3d import DdpmPrior, build
from gen_diffusion.ddpm3d_options import Ddpm3d
from gen_diffusion.unet3d import Unet3d, time_features


class PlainNorm(nn.Module):
    """LayerNorm over channels of (B, C, D, H, W), written out."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * self.weight[:, None, None, None]


class PlainAttention(nn.Module):
    """All three kinds, by matrix products."""

    def __init__(self, kind: str, dim: int, heads: int, head_dim: int):
        super().__init__()
        self.kind, self.heads, self.head_dim = kind, heads, head_dim
        self.norm = PlainNorm(dim)
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim, bias=kind == "linear")

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        B, C, D, H, W = x.shape
        y = self.norm(x)
        if self.kind == "depth":
            tokens = y.permute(0, 3, 4, 2, 1).reshape(B * H * W, D, C)
        else:
            tokens = y.permute(0, 2, 3, 4, 1).reshape(B * D, H * W, C)
        q, k, v = (
            a.reshape(*tokens.shape[:2], self.heads, self.head_dim).transpose(1, 2)
            for a in self.qkv(tokens).chunk(3, -1)
        )
        if self.kind == "linear":
            q, k = q.softmax(-1) * self.head_dim**-0.5, k.softmax(-2)
            y = torch.einsum("bhde,bhnd->bhne", torch.einsum("bhnd,bhne->bhde", k, v), q)
        else:
            if self.kind == "depth":
                q, k = self.rotate(q), self.rotate(k)
            score = torch.einsum("bhid,bhjd->bhij", q * self.head_dim**-0.5, k)
            if self.kind == "depth" and bias is not None:
                score = score + bias
            y = torch.einsum("bhij,bhjd->bhid", score.softmax(-1), v)
        y = self.out(y.transpose(1, 2).reshape(*tokens.shape[:2], -1))
        if self.kind == "depth":
            return x + y.reshape(B, H, W, D, C).permute(0, 4, 3, 1, 2)
        return x + y.reshape(B, D, H, W, C).permute(0, 4, 1, 2, 3)

    @staticmethod
    def rotate(x: Tensor) -> Tensor:
        table = rotary_table(x.shape[-2], x.shape[-1], x.device)
        cos, sin = table.real.repeat_interleave(2, -1), table.imag.repeat_interleave(2, -1)
        half = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
        return x * cos.to(x.dtype) + half * sin.to(x.dtype)


class PlainBlock(nn.Module):
    def __init__(self, a: int, b: int, time: int | None):
        super().__init__()
        self.time = None if time is None else nn.Linear(time, 2 * b)
        self.conv1, self.conv2 = (
            nn.Conv3d(a, b, (1, 3, 3), padding=(0, 1, 1)),
            nn.Conv3d(b, b, (1, 3, 3), padding=(0, 1, 1)),
        )
        self.norm1, self.norm2 = nn.GroupNorm(8, b), nn.GroupNorm(8, b)
        self.skip = nn.Conv3d(a, b, 1) if a != b else nn.Identity()

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        y = self.norm1(self.conv1(h))
        if self.time is not None:
            scale, shift = self.time(F.silu(time))[:, :, None, None, None].chunk(2, 1)
            y = y * (scale + 1) + shift
        return F.silu(self.norm2(self.conv2(F.silu(y)))) + self.skip(h)


class PlainLevel(nn.Module):
    def __init__(self, a: int, b: int, o: Ddpm3d, full: bool = False):
        super().__init__()
        self.full = full
        self.block1, self.block2 = PlainBlock(a, b, 4 * o.base), PlainBlock(b, b, 4 * o.base)
        on = o.attention == "levels" or (full and o.attention == "middle")
        self.space = PlainAttention("full" if full else "linear", b, o.heads, o.head_dim) if on else None
        self.depth = PlainAttention("depth", b, o.heads, o.head_dim) if on else None

    def forward(self, h: Tensor, time: Tensor, bias: Tensor | None) -> Tensor:
        h = self.block1(h, time)
        h = h if self.full else self.block2(h, time)
        if self.space is not None:
            h = self.depth(self.space(h, bias), bias)
        return self.block2(h, time) if self.full else h


def as_stored_by_the_library(p: Tensor) -> Tensor:
    """Our kernels (out, kh, kw, in) to (out, in, kh, kw); anything else as it is."""
    return p.permute(0, 3, 1, 2) if p.ndim == 4 else p


class PlainUnet(nn.Module):
    """The peer; even sizes only, as the textbook has it."""

    def __init__(self, shape: tuple[int, int, int, int], o: Ddpm3d):
        super().__init__()
        self.base = o.base
        dims = [o.base, *(o.base * m for m in o.multipliers)]
        pairs = list(zip(dims[:-1], dims[1:]))
        self.first = nn.Conv3d(shape[0], o.base, (1, 7, 7), padding=(0, 3, 3))
        self.position = nn.Parameter(torch.zeros(o.base, *shape[2:])) if o.position_embedding != "none" else None
        self.bias = nn.Embedding(32, o.heads) if o.attention != "none" and shape[1] > 1 else None
        self.first_depth = PlainAttention("depth", o.base, o.heads, o.head_dim) if o.attention == "levels" else None
        self.time = nn.Sequential(nn.Linear(o.base, 4 * o.base), nn.GELU(), nn.Linear(4 * o.base, 4 * o.base))
        self.down = nn.ModuleList(PlainLevel(a, b, o) for a, b in pairs)
        self.shrink = nn.ModuleList(nn.Conv3d(b, b, (1, 4, 4), (1, 2, 2), (0, 1, 1)) for _, b in pairs[:-1])
        self.middle = PlainLevel(dims[-1], dims[-1], o, full=True)
        self.up = nn.ModuleList(PlainLevel(2 * b, a, o) for a, b in reversed(pairs))
        self.grow = nn.ModuleList(
            nn.ConvTranspose3d(a, a, (1, 4, 4), (1, 2, 2), (0, 1, 1)) for a, _ in reversed(pairs[1:])
        )
        self.last = PlainBlock(2 * o.base, o.base, None)
        self.final = nn.Conv3d(o.base, shape[0], 1)

    @torch.no_grad()
    def take(self, ours: Unet3d) -> PlainUnet:
        """Copy our weights: kernels get a depth of 1, the one time projection is cut into blocks."""
        own = {name: as_stored_by_the_library(p) for name, p in ours.named_parameters()}
        levels = [*self.down, self.middle, *self.up]
        blocks = [block for level in levels for block in (level.block1, level.block2)]
        split = lambda p: p.split(ours.time_dims)
        for block, weight, bias in zip(
            blocks, split(own["time_projection.weight"]), split(own["time_projection.bias"])
        ):
            block.time.weight.copy_(weight), block.time.bias.copy_(bias)
        for name, parameter in self.named_parameters():
            source = own.get(name.replace("bias.weight", "bias.table.weight"))
            if source is not None:
                parameter.copy_(source.reshape(parameter.shape))
            else:
                assert ".time." in name, name
        return self

    def forward(self, z: Tensor, k: Tensor) -> Tensor:
        D = z.shape[2]
        bias = None if self.bias is None else self.bias(relative_buckets(D, z.device)).permute(2, 0, 1)
        time = self.time(time_features(k, self.base).to(z.dtype))
        h = self.first(z)
        if self.position is not None:
            h = h + self.position[:, None]
        if self.first_depth is not None:
            h = self.first_depth(h, bias)
        root, skips = h, []
        for i, level in enumerate(self.down):
            h = level(h, time, bias)
            skips.append(h)
            h = self.shrink[i](h) if i < len(self.shrink) else h
        h = self.middle(h, time, bias)
        for i, level in enumerate(self.up):
            h = level(torch.cat((h, skips.pop()), 1), time, bias)
            h = self.grow[i](h) if i < len(self.grow) else h
        return self.final(self.last(torch.cat((h, root), 1), time))


def peer_of(prior: DdpmPrior) -> DdpmPrior:
    """The same prior around the plain network."""
    peer = build(prior.options, PriorContext(shape=prior.shape))
    peer.network = PlainUnet(prior.shape, prior.options).take(prior.network)
    return peer


def forward(prior: DdpmPrior, z: Tensor, dtype: torch.dtype):
    """One network evaluation; half precision with the weights in half precision."""
    network, k = prior.network.to(dtype).eval(), torch.full((z.shape[0],), 100.0)

    @torch.inference_mode()
    def call() -> Tensor:
        return network(z.to(dtype), k)

    return call


def training(prior: DdpmPrior, z: Tensor, bf16: bool, fused: bool):
    """One optimizer step: loss, gradients, Adam."""
    prior.train()
    parameters = list(prior.parameters())
    adam = torch.optim.Adam(parameters, lr=1e-5, fused=fused)
    step = Step(0, 0, 1, torch.Generator().manual_seed(0), torch.device("cpu"))

    def call() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            (loss,) = (sum(part.losses.values()) for part in prior.training_step(Batch(z), step))
        loss.backward(inputs=parameters)
        adam.step()
        adam.zero_grad(set_to_none=True)

    return call


def agreement(prior: DdpmPrior, peer: DdpmPrior, z: Tensor) -> float:
    """Largest difference of the two networks' float32 outputs over the largest value."""
    k = torch.linspace(1, 300, z.shape[0])
    with torch.inference_mode():
        a, b = prior.network(z, k), peer.network(z, k)
    return ((a - b).abs().max() / b.abs().max()).item()


SMALL = Ddpm3d(base=48, multipliers=(1, 2), attention="middle", position_embedding="learned", predict="x0", loss="l2")
CASES = {
    "base 64 (28,28,2)": (Ddpm3d(base=64), (8, 2, 28, 28), 1),
    "base 128 (28,28,2)": (Ddpm3d(base=128), (8, 2, 28, 28), 1),
    "small net (16,16,1)": (SMALL, (8, 1, 16, 16), 24),
}


def run(name: str, options: Ddpm3d, shape: tuple[int, int, int, int], batch: int) -> None:
    """Both comparisons of one network."""
    from harness import compare

    torch.manual_seed(0)
    prior = build(options, PriorContext(shape=shape))
    z = torch.randn(batch, *shape)
    worst = agreement(prior, peer_of(prior), z)
    print(f"<!-- {name}: float32 outputs differ by {worst:.1e} of the largest -->", file=sys.stderr)
    assert worst < 4e-6, worst

    def ours() -> DdpmPrior:
        copy = build(options, PriorContext(shape=shape))
        copy.load_state_dict(prior.state_dict())
        return copy

    compare(
        f"forward, {name}, batch {batch}",
        {
            "plain, float32": forward(peer_of(prior), z, torch.float32),
            "ours, float32": forward(ours(), z, torch.float32),
            "plain, bf16 weights": forward(peer_of(prior), z, torch.bfloat16),
            "ours, bf16 weights": forward(ours(), z, torch.bfloat16),
        },
    )
    compare(
        f"training step, {name}, batch {batch}",
        {
            "plain, float32, Adam": training(peer_of(prior), z, False, False),
            "ours, float32, fused Adam": training(ours(), z, False, True),
            "ours, bf16, fused Adam": training(ours(), z, True, True),
        },
    )


def main() -> None:
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    for name, case in CASES.items():
        if only in name:
            run(name, *case)


if __name__ == "__main__":
    main()
