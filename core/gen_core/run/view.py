"""A finished run, read only: what the report may look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen_core.batch import collate
from gen_core.run.context import RunContext
from gen_core.run.folder import read_json
from gen_core.run.sample_store import accepted_samples


class FinishedRun:
    """The `RunView` of a run whose steps are done; whatever is missing is empty."""

    def __init__(self, ctx: RunContext):
        self._ctx = ctx
        self.folder: Path = ctx.folder.path
        self.name: str = ctx.recipe.run.name
        self.recipe: dict[str, Any] = ctx.recipe.to_dict()
        self.doc: str = ctx.recipe.doc
        self.events: list[dict[str, Any]] = ctx.logged()
        self.metrics: dict[str, Any] = read_json(self.folder / "metrics.json") or {}
        self.cost: dict[str, Any] = read_json(self.folder / "cost.json") or {}
        prepared = ctx.folder.step("prepare") / "prepared.json"
        self.prepared: dict[str, Any] = read_json(prepared) or {}
        self.spec = ctx.spec

    def _has(self, step: str) -> bool:
        return self._ctx.folder.done(step) is not None

    def real(self, split: str, n: int) -> list[Any]:
        """The first n samples of a split."""
        data = self._ctx.split(split)
        return [data[i] for i in range(min(n, len(data)))]

    @torch.no_grad()
    def reconstructions(self, n: int) -> list[tuple[Any, np.ndarray]]:
        """(sample, x_hat) of the first n validation volumes."""
        if not self._has("encode"):
            return []
        codec, pairs = self._ctx.codec(), []
        for sample in self.real("val", n):
            x = collate([sample]).x.to(self._ctx.device)
            pairs.append((sample, codec.decode(codec.encode(x))[0].float().cpu().numpy()))
        return pairs

    def synthetic(self, n: int) -> list[tuple[str, np.ndarray]]:
        """(id, x) of the first n accepted samples."""
        if not self._has("sample"):
            return []
        samples = accepted_samples(self._ctx.folder, self._ctx.recipe)
        return [(s.id, s.x) for s in (samples[i] for i in range(min(n, len(samples))))]
