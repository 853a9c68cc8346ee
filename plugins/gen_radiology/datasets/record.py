"""What `prepare` leaves behind: who is in which split, what was left out, and that splits share no content."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from gen_core.errors import DataError
from gen_core.splits import NAMES
from gen_radiology.sources.source import Source


def record(dataset: Any, progress: Any) -> dict[str, Any]:
    """What `prepare` of a data set tells. Raises: DataError where files cannot be read or splits share content."""
    splits: dict[str, Any] = {}
    owner: dict[str, tuple[str, Source]] = {}
    told: dict[str, dict[str, None]] = {}
    missing: dict[str, int] = dict.fromkeys(dataset.options.masks, 0)
    used: dict[str, Source] = {}
    for name in NAMES:
        split = dataset.split(name)
        sources = list({item.source.id: item.source for item in split.items}.values())
        for k, source in enumerate(sources):
            _, facts = dataset.cached.volume(source, verify=True)
            _, mask_facts = dataset.cached.masks(source, verify=True)
            used[source.id] = source
            for line in (*source.notes, *facts["notes"], *mask_facts["notes"]):
                told.setdefault(line, {})[source.id] = None
            for mask in mask_facts["missing"]:
                missing[mask] += not (dataset.by_region and name != "train")
            if not dataset.by_region:
                _refuse_twin(name, source, owner.setdefault(facts["content"], (name, source)))
            if progress is not None:
                progress.update("prepare", k + 1, len(sources), {}, 0.0)
        subjects = sorted({s.told_subject for s in sources})
        splits[name] = {"volumes": len(split), "scans": len(sources), "subjects": subjects}
    own = dataset.scaling == "percentiles" and dataset.options.scale.of == "volume"
    notes = list(dataset.found.notes)
    regions = {}
    if dataset.by_region:
        notes.append("one subject: train and validation are regions of the same volume, with a gap between them")
        _refuse_shared_tissue(dataset, list(used.values()))
        regions = {s.told: {n: attrs.asdict(b) for n, b in dataset.boxes(s).items()} for s in used.values()}
    for line, ids in ((line, list(found)) for line, found in told.items()):
        notes.append(f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}: {line}")
    notes += [f"mask '{m}' is missing for {n} volumes: empty there" for m, n in missing.items() if n]
    notes += _condition_notes(dataset, list(used.values()))
    if dataset.spacing is None:
        one = "lung_extent_mm" if dataset.options.sizing == "lungs" else "spacing_mm"
        notes.append(f"voxel spacing differs between volumes: dataset.{one} makes it one")
    notes += [f"passed over {id}: {reason}" for id, reason in dataset.skipped.items()]
    return {
        "splits": splits,
        "regions": regions,
        "notes": [dataset.quiet(note) for note in notes],
        "skipped": {dataset.quiet(id): dataset.quiet(reason) for id, reason in dataset.skipped.items()},
        "scale": dataset.scale.to_json(),
        "scaling": f"{dataset.scaling} of each volume" if own else dataset.scaling,
        "spacing_mm": None if dataset.spacing is None else list(dataset.spacing),
        "classes": {name: list(names) for name, names in dataset.classes.items()},
    }


def _refuse_shared_tissue(dataset: Any, sources: list[Source]) -> None:
    """Scans of one subject may not show in one split what another shows in another: regions are compared in mm."""
    parts = [(s, name, box, dataset.grid(s)[1]) for s in sources for name, box in dataset.boxes(s).items()]
    for source, name, box, affine in parts:
        for other, other_name, other_box, other_affine in parts:
            if source is other or name == other_name or np.array_equal(affine, other_affine):
                continue
            ends = np.array([other_box.low, other_box.high]) - 0.5  # outer faces of the outer voxels
            corners = [[*(ends[k][axis] for axis, k in enumerate(pick)), 1.0] for pick in np.ndindex(2, 2, 2)]
            there = (np.linalg.inv(affine) @ other_affine @ np.array(corners).T)[:3]
            low, high = np.array(box.low) - 0.5 + 1e-3, np.array(box.high) - 0.5 - 1e-3
            if (there.max(1) > low).all() and (there.min(1) < high).all():
                raise DataError(
                    f"{source.where} ({name}) and {other.where} ({other_name}) show the same part of the one subject: "
                    "choose one scan (dataset.description, dataset.pattern), or resample both and raise split.gap"
                )


def _condition_notes(dataset: Any, sources: list[Source]) -> list[str]:
    """One line for each condition that is not known everywhere."""
    unknown: dict[str, int] = {}
    for source in sources:
        for name, value in dataset.condition(source, *dataset.grid(source)[::-1]).items():
            unknown[name] = unknown.get(name, 0) + (value == -1 if name in dataset.classes else math.isnan(value))
    return [f"condition '{name}' is unknown for {n} of {len(sources)} scans" for name, n in unknown.items() if n]


def _refuse_twin(name: str, source: Source, first: tuple[str, Source]) -> None:
    if first[0] != name:
        raise DataError(
            f"{first[1].where} ({first[0]}) and {source.where} ({name}) have the same content: remove one, or set "
            f"dataset.subject so that both fall into one split"
        )
