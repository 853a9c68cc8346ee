"""Whether what a mask asked for is there: Dice of the thresholded samples with the masks they were drawn under.

The threshold lies midway between the mean inside the masks of real training volumes and the mean of a shell around
them; a voxel is found where it lies beyond the threshold on the inside's side. Only a neighbourhood is looked at, the
mask and its shell, because vessels or bone are as dense as a lesion. Real validation volumes give the floor: how well a
threshold finds their own masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from gen_core.batch import Batch
from gen_core.metric import Metric, MetricContext, Result, Value
from gen_metrics import metric_options as opt
from gen_metrics.intervals import bootstrap_mean
from gen_metrics.streams import Names, in_seeded_order


def dilated(mask: Tensor, radius: int) -> Tensor:
    """(D, H, W) bool grown by `radius` voxels along every axis longer than one."""
    sides = [2 * radius + 1 if n > 1 else 1 for n in mask.shape]
    return max_pool3d(mask[None, None].float(), sides, stride=1, padding=[s // 2 for s in sides])[0, 0] > 0


def dice(found: Tensor, mask: Tensor) -> float:
    """2 |A and B| / (|A| + |B|); 1 where both are empty."""
    total = int(found.sum()) + int(mask.sum())
    return 1.0 if total == 0 else 2.0 * int((found & mask).sum()) / total


class MaskAgreement(Metric):
    """`dice`: of each source's volumes with their masks, mean over the volumes that have any."""

    sources = ("train", "val", "synthetic")
    needs = ("masks",)

    def __init__(self, options: opt.MaskAgreement, context: MetricContext):
        self.options, self.spec, self.seed = options, context.spec, context.seed
        self.names = Names()
        self.inside: dict[str, tuple[float, float, int]] = {}  # of training volumes: sums inside, in the shell, counts
        self.kept: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}  # values and mask around each mask
        self.without = 0

    @torch.no_grad()
    def update(self, batch: Batch, source: str) -> None:
        masks = batch.masks.get(self.options.mask)
        for i, name in enumerate(self.names.of(batch, source)):
            mask = None if masks is None else masks[i, 0].cpu().expand(self.spec.size)
            if mask is None or int(mask.sum()) < self.options.least_voxels:
                self.without += source == "synthetic"
                continue
            near = dilated(mask, self.options.shell)
            x = batch.x[i].double().mean(0).cpu()
            box = tuple(slice(int(at.min()), int(at.max()) + 1) for at in torch.nonzero(near, as_tuple=True))
            if source == "train":
                shell = near & ~mask
                if bool(shell.any()):
                    self.inside[name] = (float(x[mask].mean()), float(x[shell].mean()), int(mask.sum()))
            else:
                # values outside the shell are not looked at: NaN
                values = torch.where(near, x, torch.nan)[box].float().numpy()
                self.kept.setdefault(source, {})[name] = (values, mask[box].numpy())

    def merge(self, other: Metric) -> None:
        assert isinstance(other, MaskAgreement)
        self.inside.update(other.inside)
        self.without += other.without
        for source, table in other.kept.items():
            self.kept.setdefault(source, {}).update(table)

    def _threshold(self) -> tuple[float, bool]:
        """(threshold in [-1, 1], whether the inside is brighter)."""
        rows = np.asarray([row[:2] for _, row in sorted(self.inside.items())])
        inside, shell = rows.mean(0)
        return float((inside + shell) / 2), bool(inside > shell)

    def compute(self) -> Result:
        o = self.options
        protocol: dict[str, Any] = {
            "definition": "Dice of (x beyond the threshold, in the mask and a shell around it) with the mask, mean",
            "mask": o.mask,
            "shell_voxels": o.shell,
            "least_voxels": o.least_voxels,
            "seed": self.seed,
            "synthetic_without_mask": self.without,
        }
        if not self.inside:
            return Result([], protocol | {"note": f"no training volume has the mask '{o.mask}'"})
        threshold, bright = self._threshold()
        scale = self.spec.scale
        if scale.lo.size == scale.hi.size == 1:
            physical = float(scale.to_physical(np.full((1, 1, 1, 1), threshold, np.float32)).item())
            protocol |= {"threshold": physical, "units": self.spec.units}
        protocol |= {"threshold_scaled": threshold, "inside": "brighter" if bright else "darker"}
        values, floor = [], None
        extra: dict[str, Any] = {}
        for source in ("val", "synthetic"):
            table = in_seeded_order(self.kept.get(source, {}), self.seed)
            if not table:
                continue
            beyond = [(v > threshold if bright else v < threshold) & np.isfinite(v) for _, (v, _) in table]
            found = [dice(torch.from_numpy(b), torch.from_numpy(m)) for b, (_, (_, m)) in zip(beyond, table)]
            low, high = bootstrap_mean(found, self.seed)
            mean = float(np.mean(found))
            flag = "" if len(found) >= 10 else f"only {len(found)} volumes with a mask"
            values.append(
                Value(
                    "dice",
                    mean,
                    source,
                    "",
                    low,
                    high,
                    "95 %, bootstrap over volumes",
                    floor,
                    len(found),
                    "higher",
                    flag,
                )
            )
            floor = mean if source == "val" else floor
            contrast = [_contrast(v, m) for _, (v, m) in table]
            contrast = [c if bright else -c for c in contrast if np.isfinite(c)]
            if contrast:
                values.append(Value("contrast", float(np.mean(contrast)), source, n=len(contrast), better="match"))
            extra[source] = {name: round(d, 4) for (name, _), d in zip(table, found)}
        return Result(values, protocol, {"dice": extra})


def _contrast(values: np.ndarray, mask: np.ndarray) -> float:
    """Mean inside less mean of the shell, in [-1, 1] units; NaN without a shell."""
    shell = np.isfinite(values) & ~mask
    return float(values[mask].mean() - values[shell].mean()) if shell.any() else float("nan")
