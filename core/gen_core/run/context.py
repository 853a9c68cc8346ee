"""What the steps of a run share: the recipe, the folder, and every component built or loaded on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from attrs import evolve

from gen_core.batch import Batch, collate
from gen_core.codec import Codec, CodecContext
from gen_core.dataset import Dataset, DatasetContext, Split
from gen_core.engine.checkpoint import load_weights
from gen_core.engine.events import EventLog, read_events
from gen_core.engine.ranks import Ranks
from gen_core.engine.seeds import seeded_global
from gen_core.engine.stop import StopFlag
from gen_core.errors import Stopped, UsageError
from gen_core.features import FeatureNetwork, FeaturesContext
from gen_core.prior import Prior, PriorContext
from gen_core.run.conditioning import Conditioner
from gen_core.run.folder import RunFolder, read_json
from gen_core.run.graph import is_trainable
from gen_core.sampler import Sampler
from gen_core.segmenter import Segmenter, SegmenterContext
from gen_core.tiling.tiles import Tiles, check_tiling
from gen_core.volume import Sample, VolumeSpec

SMOKE_VOLUMES = 2  # a split, in a smoke run


class RunContext:
    """One run while it works. Components are cached; nothing here decides what runs."""

    def __init__(
        self,
        recipe: Any,
        registry: Any,
        folder: RunFolder,
        device: torch.device,
        progress: Any,
        stop: StopFlag,
        smoke: bool = False,
        cache: Path | None = None,
        ranks: Ranks | None = None,
    ):
        self.recipe, self.registry, self.folder, self.device = recipe, registry, folder, device
        self.progress, self.stop, self.smoke = progress, stop, smoke
        self.ranks = ranks or Ranks()  # the processes that share the work of some steps
        self.cache = cache or folder.path.parent / ".cache"
        self._parts: dict[str, Any] = {}

    @cached_property
    def events(self) -> EventLog:
        """The run's event log, open for appending."""
        return EventLog(self.folder.path / "events.jsonl")

    @property
    def seed(self) -> int:
        return self.recipe.run.seed

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._parts:
            self._parts[key] = make()
        return self._parts[key]

    def _build(self, name: str, context: Any) -> Any:
        table = self.recipe.table(name)
        return table.component.build(table.options, context)

    def check_stop(self) -> None:
        """Raises: Stopped when a signal asked for it; what is written so far stays."""
        if self.stop.requested:
            raise Stopped(f"stopped by {self.stop.requested}; the same command goes on from here")

    # data

    @cached_property
    def dataset(self) -> Dataset:
        """The recipe's data set. Raises: DataError when its files cannot be used."""
        context = DatasetContext(
            volume=self.recipe.volume,
            split=self.recipe.split,
            seed=self.seed,
            cache=self.cache,
            limit=SMOKE_VOLUMES if self.smoke else 0,
        )
        return self._build("dataset", context)

    @property
    def spec(self) -> VolumeSpec:
        """The volume spec as `prepare` recorded it (scale included), else as the data set says."""
        return self.dataset.spec

    def split(self, name: str) -> Split:
        return self.dataset.split(name)

    def groups(self, split: Split, size: int, limit: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[list[Sample]]:
        """The plain volumes of a split in order, `size` at a time; stops the run between groups when asked.

        part: (i, k) leaves out all groups but i, i + k, ...
        """
        n = min(len(split), limit) if limit else len(split)
        for start in range(part[0] * size, n, part[1] * size):
            self.check_stop()
            yield [split[i] for i in range(start, min(start + size, n))]

    def batches(self, split: Split, size: int, limit: int = 0) -> Iterator[Batch]:
        """`groups` as batches on the run's device."""
        return (collate(samples).to(self.device) for samples in self.groups(split, size, limit))

    # components

    def new_codec(self) -> Codec:
        """The codec as built, weights as initialized."""
        codec = self._build("codec", CodecContext(self.spec)).to(self.device)
        check_tiling(self.recipe, codec)
        return codec

    def fitted_codec(self) -> Codec:
        """The codec with the weights of `fit.codec`, not yet calibrated."""
        codec = self.new_codec()
        if is_trainable(self.recipe.table("codec")):
            load_weights(codec, self.folder.step("fit.codec"))
        return self._tiled(codec.eval())

    def _tiled(self, codec: Codec) -> Codec:
        """The codec with tiles for volumes that are larger than memory; a signal stops it between two of them."""
        codec.tiles = Tiles(self.recipe.tiling, self.device, self.folder.path, self.check_stop)
        return codec

    def codec(self) -> Codec:
        """The fitted and calibrated codec, as `encode` left it."""

        def make() -> Codec:
            codec = self.new_codec()
            load_weights(codec, self.folder.step("encode"))
            return self._tiled(codec.eval().requires_grad_(False))

        return self._once("codec", make)

    def conditioner(self) -> Conditioner:
        """What turns this run's conditions into tensors; knows the scalars' ranges once `encode` is done."""
        found = read_json(self.folder.step("encode") / "conditions.json") or {}
        return Conditioner(self.recipe.conditions, self.spec, self.codec().latent, found.get("ranges"))

    def new_prior(self) -> Prior:
        """The prior as built for this codec's latents and this recipe's conditions."""
        latent = self.codec().latent
        specs = self.conditioner().specs if self.recipe.conditions else {}
        context = PriorContext(latent.shape(self.spec.size), latent.bounds, latent.tokens, specs)
        return self._build("prior", context).to(self.device)

    def prior(self) -> Prior:
        """The fitted prior."""

        def make() -> Prior:
            prior = self.new_prior()
            if is_trainable(self.recipe.table("prior")):
                load_weights(prior, self.folder.step("fit.prior"))
            return prior.eval().requires_grad_(False)

        return self._once("prior", make)

    def sampler(self) -> Sampler:
        return self._build("sampler", None)

    def new_features(self, name: str) -> FeatureNetwork:
        """The feature network of table `name`, weights as built."""
        context = FeaturesContext(self.spec, self.codec, self.features, self.fresh_features)
        return self._build(name, context).to(self.device)

    def fresh_features(self, name: str) -> FeatureNetwork:
        """The feature network of table `name`, never fitted: its weights are a function of (seed, table)."""
        with seeded_global(self.seed, "fresh", name):
            return self.new_features(name).eval().requires_grad_(False)

    def features(self, name: str) -> FeatureNetwork:
        """The feature network of table `name`, fitted when it is trainable."""
        return self._once(name, lambda: self._supporting(name, self.new_features(name)))

    def new_segmenter(self, name: str) -> Segmenter:
        """The segmenter of table `name`, weights as built."""
        return self._build(name, SegmenterContext(self.spec)).to(self.device)

    def segmenter(self, name: str) -> Segmenter:
        """The segmenter of table `name`, fitted when it is trainable."""
        return self._once(name, lambda: self._supporting(name, self.new_segmenter(name)))

    def _supporting(self, name: str, module: Any) -> Any:
        if is_trainable(self.recipe.table(name)):
            load_weights(module, self.folder.step(f"fit.{name}"))
        return module.eval().requires_grad_(False)

    def options_of(self, name: str) -> Any:
        """The `fit` options of a trainable table."""
        return self.recipe.table(name).options.fit

    # records

    def record(self, step: str) -> dict[str, Any]:
        """What a finished step recorded."""
        done = self.folder.done(step)
        if done is None:
            raise UsageError(f"{self.folder.path}: step '{step}' is not finished; run it first")
        return done

    def cost(self) -> dict[str, Any]:
        """cost.json of every step so far, by step name."""
        steps = {}
        for done in sorted((self.folder.path / "steps").glob("*/cost.json")):
            steps[done.parent.name] = read_json(done) or {}
        return steps

    def logged(self) -> list[dict[str, Any]]:
        """The lines of events.jsonl."""
        return read_events(self.folder.path / "events.jsonl")

    def with_recipe(self, **changes: Any) -> RunContext:
        """The same run with parts of the recipe replaced (for `gen sample --steps 10`)."""
        other = RunContext(
            evolve(self.recipe, **changes),
            self.registry,
            self.folder,
            self.device,
            self.progress,
            self.stop,
            self.smoke,
            self.cache,
            self.ranks,
        )
        other._parts = dict(self._parts)
        return other
