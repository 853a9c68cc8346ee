"""Which conditions each sample is drawn under: those of real volumes, of a table's rows, of another run's samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve

from gen_core.batch import known
from gen_core.component import shortened
from gen_core.condition import VECTORS, Conditions
from gen_core.engine.seeds import stable_seed
from gen_core.errors import DataError, UsageError
from gen_core.inspect import find_reader
from gen_core.options import ConditionOptions
from gen_core.recipe import load_recipe
from gen_core.registry import did_you_mean
from gen_core.run.conditioning import UNKNOWN, with_values
from gen_core.run.folder import LOCK_RECIPE, RunFolder, read_json
from gen_core.run.sample_sources import NONE, SPLITS
from gen_core.run.samples.drawn import Under
from gen_core.run.samples.store import accepted_samples
from gen_core.table_file import read_cells
from gen_core.volume import Sample, Scale


class SampleConditions:
    """The conditions of sample i: a pure function of the run, [sample] and i."""

    def __init__(self, ctx: Any, seed: int):
        self.ctx, self.seed = ctx, seed
        self.tables: dict[str, ConditionOptions] = ctx.recipe.conditions
        self.options = ctx.recipe.sample
        self.conditioner = ctx.conditioner()
        unknown = [name for name in self.options.fixed if name not in self.tables]
        if unknown:
            near = did_you_mean(unknown[0], self.tables)
            declared = ", ".join(self.tables) or "none"
            raise UsageError(f"[sample] fixed: no condition '{unknown[0]}' is declared; there are {declared}{near}")

    def of(self, indices: Sequence[int]) -> tuple[Conditions, list[Sample]]:
        """The conditions of these samples, and the volumes that carry them (their x is not the sample's)."""
        carriers = [self.carrier(i) for i in indices]
        return self.conditioner.of(carriers), carriers

    def carrier(self, i: int) -> Sample:
        """A volume with sample i's condition values and masks; its x serves conditions of kind "volume"."""
        values, masks = self.fixed
        return with_values(self._origin(i), values, masks)

    def under(self, carrier: Sample) -> Under:
        """What the sample of this carrier is drawn under."""
        wanted = [(table.of or name, table.kind) for name, table in self.tables.items()]  # names may repeat
        of_kind = lambda have, *kinds: {n: have[n] for n, kind in wanted if n in have and kind in kinds}
        values, masks = of_kind(carrier.condition, *VECTORS), of_kind(carrier.masks, "mask")
        return Under(values, masks, self._in_words(carrier))

    def _in_words(self, carrier: Sample) -> dict[str, Any]:
        """Names of classes, numbers, how much a mask covers and whose it is; None for what is unknown."""
        found: dict[str, Any] = {}
        for name, table in self.tables.items():
            of = table.of or name
            if table.kind in VECTORS:
                value = carrier.condition.get(of, -1 if table.kind == "class" else np.nan)
                if not known(value):
                    found[name] = None
                elif table.kind == "class":
                    found[name] = self.conditioner.specs[name].classes[int(value)]
                else:
                    found[name] = round(float(value), 6)
            elif table.kind == "mask":
                mask = carrier.masks.get(of)
                found[name] = None if mask is None else {"voxels": int(mask.sum()), "of": carrier.id}
            else:
                found[name] = {"of": carrier.id}
        return found

    # where they come from

    def _origin(self, i: int) -> Sample:
        source = self.options.conditions
        if source in SPLITS:
            return self._drawn(i)
        if source == NONE:
            return self._blank(i)
        if source.endswith(".csv"):
            rows = self._table
            values, masks = self._read(rows[i % len(rows)], f"{source}: row {i % len(rows) + 1}")
            return with_values(self._blank(i), values, masks)
        return self._of_run(i)

    def _blank(self, i: int) -> Sample:
        if any(table.kind == "volume" for table in self.tables.values()):
            raise UsageError('[sample] conditions: a condition of kind "volume" needs a split or a run to come from')
        x = np.zeros((len(self.ctx.spec.channels), 1, 1, 1), np.float32)
        return Sample(x=x, id=f"sample-{i:06d}", subject="", hash="")

    def _drawn(self, i: int) -> Sample:
        """A volume of the split, drawn by the sample's own seed among those that agree with the fixed classes."""
        rows = self._candidates
        draw = np.random.default_rng(stable_seed(self.seed, "condition", i)).integers(len(rows))
        return self.ctx.split(self.options.conditions)[rows[int(draw)]]

    @cached_property
    def _candidates(self) -> list[int]:
        """Rows of the split whose classes are the fixed ones (scalars and masks are replaced, not matched)."""
        split, rows = self.ctx.split(self.options.conditions), None
        wanted = {
            (self.tables[name].of or name): value
            for name, value in self._fixed_values().items()
            if self.tables[name].kind == "class" and value is not None
        }
        if wanted:
            rows = [k for k in range(len(split)) if all(split[k].condition.get(n) == v for n, v in wanted.items())]
        return rows or list(range(len(split)))

    @cached_property
    def fixed(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The values and masks that hold for every sample, by their names in the data set."""
        return self._read(self.options.fixed, "[sample] fixed")

    def _fixed_values(self) -> dict[str, Any]:
        vectors = {k: v for k, v in self.options.fixed.items() if self.tables[k].kind in VECTORS}
        return {k: self._value(k, v, "[sample] fixed") for k, v in vectors.items()}

    @cached_property
    def _table(self) -> list[dict[str, str]]:
        path = Path(self.options.conditions)
        header, rows = read_cells(path, "[sample] conditions")
        if not rows:
            raise DataError(f"{path}: [sample] conditions: no rows")
        extra = [name for name in header if name not in self.tables]
        if extra:
            name, declared = shortened(extra[0], 80), ", ".join(self.tables)
            near = did_you_mean(name, self.tables)
            raise DataError(f"{path}: column '{name}' is no declared condition; there are {declared}{near}")
        return [dict(zip(header, cells)) for _, cells in rows]

    def _read(self, row: dict[str, Any], where: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Condition values (None = unknown) and masks, by their names in the data set."""
        values: dict[str, Any] = {}
        masks: dict[str, np.ndarray] = {}
        for name, value in row.items():
            table = self.tables[name]
            of = table.of or name
            if table.kind in VECTORS:
                values[of] = self._value(name, value, where)
            elif table.kind == "mask":
                masks[of] = read_mask(Path(str(value)), self.ctx.spec.size, self.ctx.registry)
            else:
                raise UsageError(f"{where}: '{name}' is a volume; [sample] conditions names the run it comes from")
        return values, masks

    def _value(self, name: str, value: Any, where: str) -> Any:
        """A class's index or a number; None for "unknown" or an empty cell."""
        if value in (UNKNOWN, "", None):
            return None
        spec = self.conditioner.specs[name]
        if spec.kind == "scalar":
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = math.inf
            if not math.isfinite(number):
                raise UsageError(f"{where}: '{name}' is a number, got '{shortened(str(value), 40)}'")
            return number
        if value not in spec.classes:
            shown = shortened(str(value), 40)
            near = did_you_mean(shown, spec.classes)
            raise UsageError(f"{where}: '{name}' has no class '{shown}'; it has {', '.join(spec.classes)}{near}")
        return spec.classes.index(value)

    @cached_property
    def _run(self) -> tuple[Any, Scale]:
        """The accepted samples of the run that conditions come from, and their scale."""
        folder = RunFolder(Path(self.options.conditions))
        if not folder.exists or folder.done("sample") is None:
            raise UsageError(
                f'[sample] conditions = "{self.options.conditions}": neither train, val, none, a .csv file nor a run '
                f"that has drawn samples"
            )
        recipe = load_recipe(folder.path / LOCK_RECIPE, [], self.ctx.registry)
        prepared = read_json(folder.step("prepare") / "prepared.json") or {}
        scale = prepared.get("spec", {}).get("scale")
        return accepted_samples(folder, recipe), Scale.from_json(scale) if scale else Scale.unit()

    def _of_run(self, i: int) -> Sample:
        store, theirs = self._run
        sample = store[i % len(store)]
        ours = self.ctx.spec.scale
        if {theirs.lo.size, theirs.hi.size, ours.lo.size, ours.hi.size} == {1}:  # to the same physical values
            sample = evolve(sample, x=np.clip(ours.to_unit(theirs.to_physical(sample.x)), -1, 1))
        sizes = [t.size for t in self.tables.values() if t.kind == "volume"]
        if sizes and sample.x.shape[1:] != tuple(sizes[0]):
            raise UsageError(
                f"[sample] conditions: volumes of {self.options.conditions} are {sample.x.shape[1:]}, "
                f"[condition] size is {tuple(sizes[0])}"
            )
        return sample


def read_mask(path: Path, size: tuple[int, int, int], registry: Any) -> np.ndarray:
    """A mask file of volume size, by whatever reader knows it: (D, H, W) bool, nonzero = inside.

    Raises: DataError for a file no reader knows or of another size.
    """
    raw = find_reader(path, registry)[1].open(path)
    array = np.asarray(raw.array)
    if array.shape != tuple(size) and raw.axes in ("xyz", "yxb"):  # NIfTI's order; cubes with the depth last
        array = array.transpose(2, 1, 0) if raw.axes == "xyz" else array.transpose(2, 0, 1)
    if array.shape != tuple(size):
        raise DataError(f"{path}: the mask is {array.shape}, volumes are {tuple(size)} (D, H, W)")
    return array != 0
