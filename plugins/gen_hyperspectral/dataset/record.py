"""What `prepare` leaves behind: who is in which split, what was left out, and that splits share no content."""

from __future__ import annotations

from typing import Any

import attrs

from gen_core.errors import DataError
from gen_core.splits import NAMES
from gen_hyperspectral.dataset.sources import Source, subjects_of


def record(dataset: Any, progress: Any) -> dict[str, Any]:
    """What `prepare` of a data set tells. Raises: DataError where files cannot be read or splits share content."""
    notes: list[str] = []
    splits: dict[str, Any] = {}
    regions: dict[str, Any] = {}
    owner: dict[str, tuple[str, Source]] = {}
    told: dict[str, dict[str, None]] = {}
    missing_masks: dict[str, int] = {}
    for name in NAMES:
        split = dataset.split(name)
        sources = list({i.source.id: i.source for i in split.items}.values())
        for k, source in enumerate(sources):
            _, facts = dataset.cached.volume(source, verify=True)
            for line in facts["warnings"]:
                told.setdefault(line, {})[source.id] = None
            for mask in dataset.options.masks:
                missing_masks[mask] = missing_masks.get(mask, 0) + (dataset.cached.mask(source, mask) is None)
            if not dataset.by_region:
                _refuse_twin(name, source, owner.setdefault(facts["content"], (name, source)))
            if progress is not None:
                progress.update("prepare", k + 1, len(sources), {}, 0.0)
        splits[name] = {"volumes": len(split), "cubes": len(sources), "subjects": subjects_of(sources)}
    if dataset.by_region:
        notes.append("one subject: train and validation are regions of the same cube, with a gap between them")
        sizes = {s.id: dataset.source_size(s) for s in dataset.sources}
        regions = {
            s.id: {n: attrs.asdict(r) for n, r in dataset.regions(s, sizes[s.id]).items()}
            for s in dataset.sources
            if sizes[s.id] is not None
        }
    for line, ids in ((line, list(found)) for line, found in told.items()):
        notes.append(f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}: {line}")
    notes += [f"mask '{m}' is missing beside {n} cubes" for m, n in missing_masks.items() if n]
    notes += [f"passed over {id}: {reason}" for id, reason in dataset.skipped.items()]
    return {
        "splits": splits,
        "regions": regions,
        "notes": notes,
        "skipped": dict(dataset.skipped),
        "scale": dataset.scale.to_json(),
        "wavelength_nm": None if dataset.targets is None else list(dataset.targets),
    }


def _refuse_twin(name: str, source: Source, first: tuple[str, Source]) -> None:
    if first[0] != name:
        raise DataError(
            f"{first[1].path} ({first[0]}) and {source.path} ({name}) have the same content: remove one, "
            f"or set dataset.subject so that both fall into one split"
        )
