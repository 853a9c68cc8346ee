"""The quantizer's update: nearest codes and EMA sums, against the textbook formulation with a one-hot matrix.

    OMP_NUM_THREADS=2 python benchmarks/vq_lookup.py             # 28 224 x 8 vectors, 1024 and 10 240 codes
    OMP_NUM_THREADS=2 python benchmarks/vq_lookup.py --quick     # 1024 only

The peer is the usual code: all (N, K) distances, argmin, a one-hot (N, K) matrix, its product with the vectors.
Both sides must agree first: the same codes (ties aside), and EMA state within 1e-4. MONAI's EMA quantizer and
vector-quantize-pytorch stand beside where they are installed; they take part in the timing alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import compare
from torch import Tensor

from gen_codecs.codebook import Codebook
from gen_codecs.vq_options import CodebookOptions

DECAY, EPS = 0.99, 1e-7


class Plain:
    """Codebook, counts and sums of the textbook; `update` is one training step of the quantizer."""

    def __init__(self, codebook: Tensor, counts: Tensor):
        self.codebook, self.counts = codebook.clone(), counts.clone()
        self.sums = codebook * counts[:, None]

    def update(self, v: Tensor) -> Tensor:
        e = self.codebook
        d = v.square().sum(1, keepdim=True) - 2 * v @ e.t() + e.square().sum(1)
        idx = d.argmin(1)
        hot = F.one_hot(idx, len(e)).type_as(v)
        self.counts = DECAY * self.counts + (1 - DECAY) * hot.sum(0)
        self.sums = DECAY * self.sums + (1 - DECAY) * (hot.t() @ v)
        total = self.counts.sum()
        smooth = (self.counts + EPS) / (total + len(e) * EPS) * total
        self.codebook = self.sums / smooth[:, None]
        return idx


def libraries(v: Tensor, codes: int) -> dict[str, Callable[[], object]]:
    """One training step of the quantizers of other libraries, as far as they are installed."""
    sides: dict[str, Callable[[], object]] = {}
    grid = v.reshape(1, -1, 28, 36, v.shape[1]).permute(0, 4, 1, 2, 3).contiguous()  # as an encoder gives it
    try:
        from monai.networks.layers.vector_quantizer import EMAQuantizer
    except ImportError:
        print("<!-- MONAI is not installed: no row for it -->", file=sys.stderr)
    else:
        monai = EMAQuantizer(3, codes, v.shape[1], decay=DECAY).train()
        sides["MONAI"] = lambda: monai(grid)
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError:
        print("<!-- vector-quantize-pytorch is not installed: no row for it -->", file=sys.stderr)
    else:
        other = VectorQuantize(v.shape[1], codes, decay=DECAY, kmeans_init=False).train()
        sides["vector-quantize-pytorch"] = lambda: other(v[None])
    return sides


def ours(codebook: Tensor, counts: Tensor) -> Codebook:
    """Dead codes are mended as in training, the queue is filled as in training: the whole step is timed."""
    book = Codebook(*codebook.shape, CodebookOptions(decay=DECAY, laplace_eps=EPS))
    book._take(codebook, counts)
    return book


def step(book: Codebook, v: Tensor, generator: torch.Generator) -> Tensor:
    idx = book.lookup(v)
    book.observe(v, idx, True, 0)
    book.step(generator)
    return idx


def main() -> None:
    n, channels = 28224, 8
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(n, channels, generator=generator)
    for codes in (1024,) if "--quick" in sys.argv else (1024, 10240):
        codebook = v[torch.randperm(n, generator=generator)[:codes]] * 0.9
        counts = torch.full((codes,), n / codes)
        plain, book = Plain(codebook, counts), ours(codebook, counts)
        a, b = plain.update(v), step(book, v, generator)
        same = (a == b).float().mean()
        gap = (plain.sums - book.sums).abs().max() / plain.sums.abs().max()
        if same < 0.9999 or gap > 1e-4:
            raise SystemExit(f"{codes} codes: the sides disagree: {same:.4%} equal codes, sums {gap:.2e}")
        sides = {
            "one-hot": lambda p=plain: p.update(v),
            **(libraries(v, codes) if codes == 1024 else {}),
            "ours": lambda b=book: step(b, v, generator),
        }
        rounds = 7 if codes == 1024 else 3
        compare(f"VQ lookup + EMA, {n} x {channels}, {codes} codes", sides, rounds=rounds)


if __name__ == "__main__":
    with torch.no_grad():
        main()
