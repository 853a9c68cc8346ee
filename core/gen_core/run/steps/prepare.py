"""The step `prepare`: the data set is read once, and what it is gets recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from gen_core import atomic
from gen_core.errors import DataError
from gen_core.run.context import RunContext
from gen_core.run.graph import StepSpec

SPLITS = ("train", "val")


def prepare(ctx: RunContext, step: StepSpec, folder: Path) -> dict[str, Any]:
    """Fill the data set's cache and record its spec, scale and splits."""
    record = ctx.dataset.prepare(_Attentive(ctx))
    for name in SPLITS:
        split = ctx.split(name)
        if len(split) == 0:
            raise DataError(f"[split] leaves no volume for '{name}'; change [split] or add subjects")
    spec = ctx.spec
    record = {
        **record,
        "spec": {**attrs.asdict(spec, filter=lambda a, _: a.name != "scale"), "scale": spec.scale.to_json()},
        "volumes": {name: len(ctx.split(name)) for name in SPLITS},
    }
    atomic.write_json(folder / "prepared.json", record)
    for note in record.get("notes", []):
        ctx.progress.say(note)
    return {"volumes": record["volumes"]}


class _Attentive:
    """The run's progress display, which also stops a long preparation when a signal asked for it."""

    def __init__(self, ctx: RunContext):
        self._ctx = ctx

    def update(self, *args: Any) -> None:
        self._ctx.check_stop()
        self._ctx.progress.update(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx.progress, name)
