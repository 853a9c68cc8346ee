"""What is told of anomaly maps: a row a time, and the protocol that makes figures comparable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import Factory, define

from gen_core.prior import NoisePath
from gen_core.run.anomaly.input import NOT_TRUTH, Input
from gen_core.run.anomaly.maps import AnomalyOptions
from gen_core.run.anomaly.partial_noising import share_of, times_from
from gen_core.run.anomaly.scores import Ranking, volume_scores
from gen_core.run.context import RunContext
from gen_core.run.folder import sha256_file

MAIN = "top 1 %"  # the score of a volume that the table tells


@define(eq=False)
class Found:
    """What is known of each volume, in order.

    rows: JSON, with "scores": t -> name -> value and "positive" where there is a mask. masks, within: (D, H, W) bool or
    None. paths: t -> the map's file.
    """

    rows: list[dict[str, Any]] = Factory(list)
    masks: list[np.ndarray | None] = Factory(list)
    within: list[np.ndarray | None] = Factory(list)
    paths: list[dict[int, Path]] = Factory(list)

    def scores(self, t: int, name: str, volumes: Sequence[int]) -> np.ndarray:
        """That score of these volumes at t."""
        return np.array([self.rows[i]["scores"][str(t)][name] for i in volumes])

    def voxels(self, t: int, volumes: Sequence[int]) -> Ranking:
        """The voxels of these volumes at t, those with anomalies against those without."""
        values, truths = [], []
        for i in volumes:
            found, mask, valid = np.load(self.paths[i][t]), self.masks[i], self.within[i]
            assert mask is not None
            values.append(found.ravel() if valid is None else found[valid])
            truths.append(mask.ravel() if valid is None else mask[valid])
        return Ranking.of(np.concatenate(values), np.concatenate(truths))


def of_time(found: Found, t: int, path: NoisePath, steps: int) -> dict[str, Any]:
    """A row of the table: mean score, and how well maps and scores tell anomalies where masks say which."""
    everything = range(len(found.rows))
    row: dict[str, Any] = {
        "t": t,
        "steps": len(times_from(path, share_of(t, path), steps)) - 1 if t else 0,
        "score": float(found.scores(t, MAIN, everything).mean()),
    }
    known = [i for i in everything if found.masks[i] is not None]
    if not known:
        return row
    voxels, positive = found.voxels(t, known), np.array([found.rows[i]["positive"] for i in known])
    dice = voxels.best_dice or (None, None)
    return {
        **row,
        "auroc voxels": voxels.auroc,
        "average precision": voxels.average_precision,
        "dice": dice[0],
        "threshold": dice[1],
        "auroc volumes": {
            name: Ranking.of(found.scores(t, name, known), positive).auroc for name in volume_scores(np.zeros(1))
        },
    }


def protocol(ctx: RunContext, volumes: Input, found: Found, o: AnomalyOptions, given: dict[str, str]) -> dict[str, Any]:
    """How the maps were made: figures with other protocols are not to be compared."""
    path, prior = ctx.prior().path, ctx.folder.step("fit.prior") / "weights.safetensors"  # type: ignore[attr-defined]
    less = " less that of the codec alone" if o.minus_codec else ""
    return {
        "definition": f"map: mean over draws and channels of |x - x_hat|{less}, in units of [-1, 1]; score of a "
        f"volume: mean of the highest 1 % of its voxels; Dice: at the threshold that is best for these very volumes",
        "T": path.steps or "continuous, told in steps of 1/1000",
        "draws": o.n,
        "smooth_sd_voxels": o.smooth,
        "within": NOT_TRUTH if any(v is not None for v in found.within) else "all voxels",
        "mask": volumes.truth,
        "sampler": ctx.recipe.table("sampler").use,
        "steps_from_T": ctx.recipe.sample.steps or ctx.sampler().steps,
        "clamp": ctx.recipe.sample.clamp,
        "guidance": ctx.recipe.sample.guidance if ctx.recipe.conditions else 1.0,
        "conditions": given or "none",
        "seed": o.seed,
        "volumes": len(found.rows),
        "prior": sha256_file(prior) if prior.exists() else "",
        "codec": sha256_file(ctx.folder.step("encode") / "weights.safetensors"),
    }


def results(
    ctx: RunContext, volumes: Input, found: Found, options: AnomalyOptions, given: dict[str, str]
) -> dict[str, Any]:
    """All that is told, as JSON."""
    path, steps = ctx.prior().path, ctx.recipe.sample.steps or ctx.sampler().steps  # type: ignore[attr-defined]
    times = [of_time(found, t, path, steps) for t in options.times]
    scored = [row for row in times if row.get("auroc voxels") is not None]
    best = max(scored, key=lambda row: row["auroc voxels"], default=None)
    return {
        "recipe": ctx.recipe.run.name,
        "input": volumes.source,
        "protocol": protocol(ctx, volumes, found, options, given),
        "times": times,
        "best": {"t": best["t"], "by": "auroc voxels"} if best else None,
        "volumes": found.rows,
        "said": volumes.said,
    }
