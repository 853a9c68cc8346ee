"""Parts of the volumes that metrics score once more: each class of a condition, samples before any was set aside."""

from __future__ import annotations

from typing import Any

import torch
from attrs import Factory, frozen

from gen_core.batch import Batch
from gen_core.run.context import RunContext
from gen_core.run.latents import stored_latents
from gen_core.run.samples.store import SampleStore, rejected_samples, sample_id

SAMPLES = "synthetic"


@frozen
class Part:
    """What some metrics look at. label: "" for all that counts, else part of the result's name.

    tables: names of the metric tables; None = all of the recipe. index: of the class that volumes must have.
    rejected: whether samples that were set aside count.
    """

    label: str = ""
    tables: tuple[str, ...] | None = None
    of: str = ""
    index: int = -1
    rejected: bool = False

    def of_batch(self, batch: Batch, source: str, aside: frozenset[str]) -> Batch | None:
        """The volumes of the batch that belong to this part: the batch itself where all do, None where none does."""
        rows = list(range(len(batch)))
        if source == SAMPLES and aside and not self.rejected:
            rows = [i for i in rows if batch.ids[i] not in aside]
        if self.of:
            classes = batch.condition.get(self.of, torch.full((len(batch),), -1))
            rows = [i for i in rows if int(classes[i]) == self.index]
        if len(rows) == len(batch):
            return batch
        return batch.take(rows) if rows else None


@frozen
class Parts:
    """All parts of an evaluation. aside: ids of the samples that do not count."""

    parts: tuple[Part, ...] = (Part(),)
    aside: frozenset[str] = frozenset()
    classes: dict[str, list[int]] = Factory(dict)  # source -> class of each volume, where parts go by class

    def counts(self, part: Part, counts: dict[str, int]) -> dict[str, int]:
        """How many volumes of each source belong to a part, of those that are streamed."""
        found = {}
        for source, n in counts.items():
            origin = {"reconstruction": "val", "reconstruction-train": "train"}.get(source, source)
            rows = range(n)
            if source == SAMPLES and self.aside and not part.rejected:
                rows = [i for i in rows if sample_id(i) not in self.aside]
            classes = self.classes.get(origin, [])
            found[source] = sum(classes[i] == part.index for i in rows if i < len(classes)) if part.of else len(rows)
        return found


def parts_of(ctx: RunContext) -> Parts:
    """The parts that a recipe asks for."""
    evaluate, parts = ctx.recipe.evaluate, [Part()]
    aside: frozenset[str] = frozenset()
    if evaluate.reject.unfiltered and evaluate.reject.by:
        aside = frozenset(rejected_samples(ctx.folder, ctx.recipe))
        parts.append(Part("unfiltered", evaluate.reject.unfiltered, rejected=True))
    classes: dict[str, list[int]] = {}
    name = evaluate.classes.of
    if name and evaluate.classes.metrics and ctx.folder.done("encode"):
        of = ctx.recipe.conditions[name].of or name
        spec = ctx.conditioner().specs[name]
        parts += [Part(f"{name} {label}", evaluate.classes.metrics, of, k) for k, label in enumerate(spec.classes)]
        classes = {split: _classes_of_split(ctx, split, name) for split in ("train", "val")}
        if ctx.folder.done("sample"):
            classes[SAMPLES] = _classes_of_samples(ctx, of)
    return Parts(tuple(parts), aside, classes)


def _classes_of_split(ctx: RunContext, split: str, name: str) -> list[int]:
    conditions = stored_latents(ctx.folder.step("encode"), split)[1]
    values, present = conditions.values[name][0], conditions.present[name][0]
    return torch.where(present, values, -1).tolist()


def _classes_of_samples(ctx: RunContext, of: str) -> list[int]:
    store: Any = SampleStore(ctx.folder.step("sample"), ctx.recipe.sample.batch)
    return [int(store.condition(index).get(of, -1)) for index in store.indices]
