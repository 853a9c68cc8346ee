"""Anomaly maps of any finished diffusion run: noise a volume's latent to t, denoise it, look where the volume differs.

A prior that knows only healthy volumes gives back healthy ones; what it cannot keep is the anomaly. A small t leaves
anomalies in place, a large one replaces the anatomy too: the table over t is the result.
Source: Wyatt et al. 2022 (AnoDDPM); scores of volumes after Schlegl et al. 2017, without their feature term.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import Factory, define, evolve
from torch import Tensor

from gen_core import __version__, atomic
from gen_core.batch import collate
from gen_core.engine.device import resolve_device
from gen_core.engine.stop import StopFlag
from gen_core.errors import DataError, RunError, UsageError
from gen_core.prior import DiffusionPrior
from gen_core.run.anomaly.figure import ROWS, Shown, draw, slice_of
from gen_core.run.anomaly.input import NOT_TRUTH, Input, Told, open_input
from gen_core.run.anomaly.maps import AnomalyOptions, anomaly_maps, smoothed
from gen_core.run.anomaly.partial_noising import share_of
from gen_core.run.anomaly.results import Found, results
from gen_core.run.anomaly.scores import volume_scores
from gen_core.run.context import RunContext
from gen_core.run.graph import is_trainable
from gen_core.run.opening import is_smoke, open_run
from gen_core.run.progress import Silent
from gen_core.volume import Sample

RESULTS, FIGURE = "anomaly.json", "anomaly.png"


def find_anomalies(
    run_dir: str | Path,
    where: str,
    times: Sequence[int],
    *,
    masks: str | None = None,
    mask: str | None = None,
    out: str | Path | None = None,
    n: int = 1,
    sampler: str | None = None,
    steps: int | None = None,
    conditions: dict[str, str] | None = None,
    guidance: float | None = None,
    smooth: float = 0.0,
    minus_codec: bool = False,
    seed: int = 0,
    batch: int | None = None,
    limit: int = 0,
    format: str = "npy",
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    progress: Any = None,
) -> dict[str, Any]:
    """Maps of every volume of `where` at every time, their scores, and the figure; writes `out`, returns the results.

    where, masks, mask, limit: see `open_input`. conditions: what the prior is told, by name (a class, a number, a
    mask's file, "empty", "own"). overrides: settings of the data set that reads `where`, not of the run.
    Raises: UsageError, DataError, RunError naming the volume whose map is not finite.
    """
    settings = [f'sampler.use="{sampler}"'] if sampler else []
    settings += [f'device="{device}"'] if device else []
    settings += [f"sample.steps={steps}"] if steps else []
    settings += [f"sample.guidance={guidance}"] if guidance is not None else []
    recipe, registry, folder = open_run(run_dir, tuple(settings))
    reading = open_run(run_dir, overrides)[0] if overrides else recipe
    with StopFlag() as stop:
        chosen = resolve_device(recipe.run.device)
        ctx = RunContext(recipe, registry, folder, chosen, progress or Silent(), stop, is_smoke(folder))
        _check(ctx)
        options = AnomalyOptions(
            tuple(dict.fromkeys(times)), n, smooth, minus_codec, seed, batch or recipe.sample.batch
        )
        for t in options.times:
            share_of(t, ctx.prior().path)
        given = conditions or {}
        told = Told(ctx, given)
        volumes = open_input(ctx, reading, where, masks, mask, limit)
        named = Path(where).absolute().name.partition(".")[0]
        target = Path(out) if out else folder.path / f"anomaly-{named}"
        work = _Work(ctx, options, volumes, told, target, format)
        work.run()
        told_of = {"gen": __version__, **results(ctx, volumes, work.found, options, given), "figure": FIGURE}
        work.figure(told_of["times"])
        atomic.write_json(target / RESULTS, told_of)
    return {"folder": str(target), **told_of}


def _check(ctx: RunContext) -> None:
    """Raises: UsageError for a run without a finished diffusion prior."""
    lacking = [name for name in ("codec", "prior", "sampler") if name not in ctx.recipe.tables]
    if lacking:
        raise UsageError(f"{ctx.folder.path}: anomalies need a diffusion run; this one has no [{lacking[0]}]")
    ctx.record("encode")
    if is_trainable(ctx.recipe.table("prior")):
        ctx.record("fit.prior")
    if not isinstance(ctx.prior(), DiffusionPrior):
        use = ctx.recipe.table("prior").use
        raise UsageError(f"{ctx.folder.path}: the prior '{use}' draws in one step; anomalies need a diffusion prior")


@define(eq=False)
class _Work:
    """The volumes of one call, batch by batch; maps go to files, so that memory holds those of one time at most."""

    ctx: RunContext
    options: AnomalyOptions
    volumes: Input
    told: Told
    target: Path
    format: str
    found: Found = Factory(Found)
    shown: list[Shown] = Factory(list)

    def run(self) -> None:
        """Make and write all maps."""
        samples, size = self.volumes.samples, max(1, self.options.batch // self.options.n)
        for start in range(0, len(samples), size):
            self.ctx.check_stop()
            self._batch([samples[i] for i in range(start, min(start + size, len(samples)))], start)
            self.ctx.progress.update("anomaly", min(start + size, len(samples)), len(samples), {}, None)

    def figure(self, times: list[dict[str, Any]]) -> None:
        """Draw the figure, volumes with anomalies first. times: the rows of the table."""
        areas = [row.get("auroc voxels") for row in times]
        columns = [f"t = {row['t']}" + ("" if a is None else f"\nAUROC {a:.3f}") for row, a in zip(times, areas)]
        rows = sorted(self.shown, key=lambda s: not (s.mask is not None and s.mask.any()))
        draw(rows, columns, self.target / FIGURE)

    def _batch(self, samples: list[Sample], start: int) -> None:
        ctx = self.ctx
        cond = self.told.of(samples)
        x = collate([evolve(s, masks={}, condition={}) for s in samples]).x.to(ctx.device)
        x_codec, each = anomaly_maps(
            x,
            [s.id for s in samples],
            self.options,
            codec=ctx.codec(),
            prior=ctx.prior(),  # type: ignore[arg-type]
            sampler=ctx.sampler(),
            sample=ctx.recipe.sample,
            cond=cond.to(ctx.device) if cond else None,
        )
        shown = [self._started(s, start + k, x_codec[k]) for k, s in enumerate(samples)]
        for t, mapped in zip(self.options.times, each):
            for k, sample in enumerate(samples):
                self._keep(start + k, sample, t, mapped.maps[k].cpu().numpy(), mapped.x_hat[k], shown[k])

    def _started(self, sample: Sample, i: int, x_codec: Tensor) -> Shown:
        """Begin the row of a volume."""
        mask = self.volumes.mask(sample)
        valid = sample.masks.get(NOT_TRUTH)
        valid = None if valid is None or valid.all() else np.broadcast_to(valid, sample.x.shape[1:])
        if valid is not None and not valid.any():
            raise DataError(f"{sample.id}: its mask '{NOT_TRUTH}' is empty: there is nothing to look at")
        self.found.masks.append(mask)
        self.found.within.append(valid)
        row: dict[str, Any] = {"id": sample.id, "subject": sample.subject}
        if mask is not None:
            row |= {"positive": bool(mask.any()), "mask_voxels": int(mask.sum())}
        error = (torch.from_numpy(sample.x) - x_codec.cpu()).abs().mean()
        self.found.rows.append({**row, "codec_error": float(error), "scores": {}, "files": {}})
        self.found.paths.append({t: self._map_path(i, t) for t in self.options.times})
        at = slice_of(mask, sample.x.shape[1])
        grey = lambda v: v[:, at].mean(0)
        flat = None if mask is None else np.array(mask[at])
        shown = Shown(sample.id, at, grey(sample.x), flat, grey(x_codec.cpu().numpy()))
        alike = [s for s in self.shown if (s.mask is not None and s.mask.any()) == (flat is not None and flat.any())]
        if len(alike) < ROWS:
            self.shown.append(shown)
        return shown

    def _keep(self, i: int, sample: Sample, t: int, found: np.ndarray, x_hat: Tensor, shown: Shown) -> None:
        """Write a map, score the volume by it, and keep a slice for the figure."""
        if not np.isfinite(found).all():
            raise RunError(f"{sample.id}: the map at t = {t} is not finite; set [sample] clamp or more steps")
        found, valid = smoothed(found.astype(np.float32), self.options.smooth), self.found.within[i]
        if valid is not None:
            found = np.where(valid, found, 0).astype(np.float32)
        path = self.found.paths[i][t]
        with atomic.replacing(path) as beside, beside.open("wb") as file:
            np.save(file, found)
        row = self.found.rows[i]
        row["scores"][str(t)] = volume_scores(found if valid is None else found[valid])
        row["files"][str(t)] = [path.relative_to(self.target).as_posix(), *self._written(path, found, sample, t)]
        if any(shown is one for one in self.shown):
            shown.maps.append(found[shown.at])
            shown.reconstructions.append(x_hat[:, shown.at].mean(0).cpu().numpy())

    def _map_path(self, i: int, t: int) -> Path:
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.found.rows[i]["id"])
        return self.target / "maps" / f"t-{t:04d}" / f"{i:05d}-{name}.npy"

    def _written(self, path: Path, found: np.ndarray, sample: Sample, t: int) -> list[str]:
        """The map once more in the format asked for."""
        if self.format == "npy":
            return []
        component = self.ctx.registry.get("writer", self.format)
        writer = component.build(component.options_class()(), None)
        spec = evolve(self.ctx.spec, channels=("anomaly",), units="", masks=(), classes={})
        info = {"anomaly_map_of": sample.id, "t": t, "recipe": self.ctx.recipe.run.name, "synthetic": False}
        files = writer.write(path.with_suffix(""), found[None], spec, info)
        return [f.relative_to(self.target).as_posix() for f in files]
