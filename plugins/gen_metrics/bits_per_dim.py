"""The likelihood of real volumes under a diffusion prior, as bits a value: what it costs to tell one to another."""

from __future__ import annotations

from math import log2
from typing import Any

import torch
from torch import Tensor

from gen_core.batch import Batch
from gen_core.denoising import guided
from gen_core.errors import RecipeError
from gen_core.flow.likelihood import bits_per_dim, log_likelihood
from gen_core.metric import Metric, MetricContext, Result
from gen_core.prior import DiffusionPrior
from gen_metrics import metric_options as opt
from gen_metrics.psnr import mean_value
from gen_metrics.streams import Names, draw_key


class BitsPerDim(Metric):
    """-log2 p(z) over the values of z, a volume at a time; train less val is what was learned by heart.

    The density of latents z = encode(x) given the volume's own conditions (`told = false`: given none). With `levels`
    (latents that are the volume itself) the bits of the volume in so many grey levels: x is spread evenly over its
    level, and log2 of levels over the range is added. Source: Song et al. 2021 (score SDE), eq. 39; the spread: Theis
    et al. 2016, section 3.1.
    """

    sources = ("train", "val")
    needs = ("codec", "prior")

    def __init__(self, options: opt.BitsPerDim, context: MetricContext):
        self.options, self.context = options, context
        self.names = Names()
        self.tables: dict[str, dict[str, float]] = {source: {} for source in self.sources}

    def chosen(self, source: str, name: str) -> bool:
        """About `volumes` of each source, drawn by their ids."""
        n = self.context.counts.get(source, 0)
        return draw_key(self.context.seed, name) * n <= self.options.volumes * 2**64

    def draws(self, names: list[str], shape: torch.Size, k: int) -> Tensor:
        """Standard normal, each volume's from its own name."""
        seeds = [draw_key(self.context.seed, f"{name}:{k}") >> 1 for name in names]
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def latents(self, x: Tensor, names: list[str]) -> Tensor:
        """z of volumes; with `levels` of volumes spread over their levels."""
        codec, levels = self.context.codec(), self.options.levels
        if not levels:
            return codec.encode(x)
        uniform = torch.special.ndtr(self.draws(names, x.shape[1:], -1)).to(x)
        z = codec.encode(x + (2.0 * uniform - 1.0) / levels)
        if z.shape != x.shape:
            raise RecipeError("[metrics.bits-per-dim] levels: latents are not the volume; leave levels at 0")
        return z

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        o, prior, names = self.options, self.context.prior(), self.names.of(batch, source)
        if not isinstance(prior, DiffusionPrior):
            raise RecipeError("[metrics.bits-per-dim] needs a diffusion prior; this one has no noise path")
        rows = [i for i, name in enumerate(names) if self.chosen(source, name)]
        if not rows:
            return
        names = [names[i] for i in rows]
        prior.eval()
        z = self.latents(batch.x[rows], names)
        cond = self.context.conditions(batch.take(rows)) if o.told else None
        log_p = log_likelihood(
            guided(prior.denoise, cond, 1.0) if cond else prior.denoise,
            prior.path,
            z,
            lambda k: self.draws(names, z.shape[1:], k).to(z),
            probes=o.probes,
            end=o.end,
            rtol=o.rtol,
            atol=o.atol,
            evaluations=o.evaluations,
        )
        more = log2(o.levels / 2) if o.levels else 0.0
        self.tables[source].update(zip(names, (bits_per_dim(log_p, z[0].numel()) + more).tolist()))

    def merge(self, other: Metric) -> None:
        assert isinstance(other, BitsPerDim)
        for source, table in other.tables.items():
            self.tables[source].update(table)

    def compute(self) -> Result:
        seed, o = self.context.seed, self.options
        values = [
            mean_value("bits-per-dim", table, seed, source, "", "lower")
            for source, table in self.tables.items()
            if table
        ]
        protocol: dict[str, Any] = {
            "definition": "mean over volumes of -log2 p a value, by the probability flow and Hutchinson's trace",
            "of": f"volumes in {o.levels} grey levels" if o.levels else "the density of latents, which may exceed 1",
            "conditions": "the volume's own, where the recipe declares any" if o.told else "none told",
            "probes": o.probes,
            "tolerance": [o.rtol, o.atol],
            "end": o.end,
            "seed": seed,
        }
        return Result(values, protocol)
