"""A finished run, read only: what the report may look at."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gen_core.batch import collate
from gen_core.dataset import Split
from gen_core.features import FeatureNetwork
from gen_core.report import Features
from gen_core.run.context import RunContext
from gen_core.run.folder import read_json
from gen_core.run.graph import uses
from gen_core.run.samples.store import SampleStore, accepted_samples, rejected_samples, sample_id
from gen_core.run.view import strips
from gen_core.volume import Sample

REAL = ("train", "val")
LEAST_DIM = 3  # of features in which volumes can be looked at
PLANES = 12  # of a volume, at most, that a network of images looks at


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
        self.cost: dict[str, Any] = ctx.folder.cost()
        prepared = ctx.folder.step("prepare") / "prepared.json"
        self.prepared: dict[str, Any] = read_json(prepared) or {}
        names = sorted(done.parent.name for done in (self.folder / "steps").glob("*/done.json"))
        self.steps: dict[str, dict[str, Any]] = {name: _recorded(ctx, name) for name in names}
        self.spec = ctx.spec
        self._seen: dict[str, list[str]] = {name: [] for name in REAL}  # ids met so far, in the order of the split

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

    # one by one

    def find(self, id: str, most: int = 0) -> Sample | None:
        """The volume of that id: a sample, a rejected one included, else of training or validation.

        most: real volumes of a split looked through at most (0: all). Each is read once, however many ids are asked.
        """
        if id in self._drawn:
            return self._drawn[id]()
        for name in REAL:
            split = self._ctx.split(name)
            found = self._find_real(split, self._seen[name], id, min(most, len(split)) if most else len(split))
            if found is not None:
                return found
        return None

    @cached_property
    def _drawn(self) -> dict[str, Callable[[], Sample]]:
        """Id -> how to read it, of every sample that was drawn."""
        if not self._has("sample"):
            return {}
        store = SampleStore(self._ctx.folder.step("sample"), self._ctx.recipe.sample.batch)
        return {sample_id(n): partial(store.__getitem__, i) for i, n in enumerate(store.indices)}

    def _find_real(self, split: Split, seen: list[str], id: str, end: int) -> Sample | None:
        if id in seen:
            return split[seen.index(id)]
        while len(seen) < end:
            sample = split[len(seen)]
            seen.append(sample.id)
            if sample.id == id:
                return sample
        return None

    def rejected(self) -> dict[str, list[str]]:
        """Id -> reasons of every sample that was set aside."""
        return rejected_samples(self._ctx.folder, self._ctx.recipe)

    # what networks make of it

    @torch.no_grad()
    def features(self, n: int) -> Features | None:
        """Vectors of at most n volumes of each source by the first network that a metric uses, rather of volumes.

        A network of images sees planes spread over the depth in grey; its features are averaged.
        """
        found = self._network() if self._has("evaluate") else None
        if found is None:
            return None
        name, network = found
        volumes: dict[str, Any] = {split: (s.x for s in self.real(split, n)) for split in REAL}
        if self._has("sample"):
            volumes["synthetic"] = (x for _, x in self.synthetic(n))
        vectors = {
            source: np.stack([self._vector(network, torch.from_numpy(x)) for x in found])
            for source, found in volumes.items()
        }
        return Features(name, network.dim, vectors)

    def _network(self) -> tuple[str, FeatureNetwork] | None:
        recipe = self._ctx.recipe
        tables = {t.name for t in recipe.tables_of("features")}
        used = [n for metric in recipe.tables_of("metric") for n in uses(recipe, metric) if n in tables]
        found = None
        for name in dict.fromkeys(used):
            network = self._ctx.features(name)
            if network.dim < LEAST_DIM:  # a probe gives one number
                continue
            if network.takes == "volume":
                return name, network
            found = found or (name, network)
        return found

    def _vector(self, network: FeatureNetwork, x: torch.Tensor) -> np.ndarray:
        """x (C, D, H, W) -> (dim,)."""
        x = x.to(self._ctx.device)
        if network.takes == "volume":
            return network.features(x[None])[0].float().cpu().numpy()
        planes = x.mean(0)[np.unique(np.linspace(0, x.shape[1] - 1, PLANES).round().astype(int))]
        return network.features(planes[:, None].expand(-1, 3, -1, -1).contiguous()).mean(0).float().cpu().numpy()

    def interpolation(self, frames: int, most_steps: int) -> list[tuple[float, np.ndarray]]:
        """(share, x) from sample 0 to sample 1 through their noise."""
        if not self._has("sample"):
            return []
        return [(u, x.numpy()) for u, x in strips.interpolation(self._ctx, frames, most_steps)]

    def denoising(self, frames: int, most_steps: int) -> list[tuple[float, np.ndarray, np.ndarray]]:
        """(t, x of z_t, x of the estimate of z_0) along the way of sample 0."""
        if not self._has("sample"):
            return []
        return [(t, a.numpy(), b.numpy()) for t, a, b in strips.denoising(self._ctx, frames, most_steps)]


def _recorded(ctx: RunContext, step: str) -> dict[str, Any]:
    """done.json of a step, with what the equal step of another run recorded where it is taken from there."""
    own = read_json(ctx.folder.path / "steps" / step / "done.json") or {}
    return {**(read_json(ctx.folder.step(step) / "done.json") or {}), **own}
