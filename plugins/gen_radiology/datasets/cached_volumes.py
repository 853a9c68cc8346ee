"""Physical values and masks of sources, read and prepared once: what a data set keeps in its cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from gen_core.errors import DataError
from gen_core.volume_cache import key_of
from gen_radiology.datasets.preprocess import Block, Prepared, prepared
from gen_radiology.sources.source import Source, files_hash

VERSION = 1  # of readers and preprocessing: part of every cache key


class CachedVolumes:
    """Volumes and masks of one data set; what is missing in its cache is made when it is asked for."""

    def __init__(self, dataset: Any):
        self.dataset, self.options, self.cache = dataset, dataset.options, dataset.cache
        self._keys: dict[str, str] = {}
        self._block = Block()

    def forget(self) -> None:
        """Let the last scan go, which is kept whole."""
        self._block = Block()

    def key(self, source: Source) -> str:
        """What a cached volume depends on; the files are read once a process."""
        if source.id not in self._keys:
            o = self.options
            names = (
                "orientation", "spacing_mm", "sizing", "at", "lung_margin_mm", "lung_extent_mm", "remove_table", "nan",
                "resample_masks", "slices",
            )  # fmt: skip
            by_mask = o.at not in ("centre", "foreground", "lungs")
            self._keys[source.id] = key_of(
                version=VERSION,
                kind=type(o).__name__,
                image=files_hash(source.image_files, self.cache.folder),
                masks=[files_hash(source.mask_files, self.cache.folder), self._mask_settings()] if by_mask else [],
                part=[source.id, None if source.focus is None else source.focus.tolist()],
                settings={name: getattr(o, name) for name in names},
                reader=[getattr(o, "geometry", ""), getattr(o, "modality", "")],
                size=None if o.crop.size else self.dataset.size,
            )
        return self._keys[source.id]

    def _mask_settings(self) -> list[Any]:
        names = ("masks", "aliases", "mask_files", "labels_file", "labels", "level")
        return [getattr(self.options, name, None) for name in names]

    def _prepared(self, source: Source) -> Prepared:
        """Read and preprocess a source; the last one is kept, because volume and masks are asked for in turn."""
        try:
            return prepared(source, self.options, self.dataset.target, self.dataset.units, self._block)
        except DataError as error:
            hinted = self.options.unreadable == "refuse"
            raise self.dataset.hinted(error) if hinted else DataError(self.dataset.quiet(str(error))) from None

    def volume(self, source: Source, verify: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
        """The cached physical values (z, y, x), NaN where there are no data, and the facts of the entry."""

        def fill(out: np.ndarray) -> dict[str, Any]:
            made = self._prepared(source)
            out[:] = made.array
            return {"affine": made.affine.tolist(), "history": made.history, "notes": made.notes}

        return self.cache.fetch(self.key(source), lambda: self._prepared(source).array.shape, "<f4", fill, verify)

    def masks(self, source: Source, verify: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The cached masks (z, y, x) bool by name, empty where one is missing, and the facts of the entry.

        Raises: DataError where one is missing and dataset.require_masks is set.
        """
        names = self.options.masks
        if not names:
            return {}, {"notes": [], "missing": []}

        def fill(out: np.ndarray) -> dict[str, Any]:
            made = self._prepared(source)
            for mask, name in zip(out, names):
                mask[:] = made.masks.get(name, False)
            return {"notes": made.mask_notes, "missing": [name for name in names if name not in made.masks]}

        files = files_hash(source.mask_files, self.cache.folder)
        key = key_of(masks=files, settings=self._mask_settings(), volume=self.key(source))
        array, facts = self.cache.fetch(
            key, lambda: (len(names), *self._prepared(source).array.shape), "|b1", fill, verify
        )
        if facts["missing"] and self.options.require_masks:
            told = f"; {facts['notes'][0]}" if facts["notes"] else ""
            raise DataError(
                f"{source.where}: mask '{facts['missing'][0]}' is missing, and dataset.require_masks is set{told}"
            )
        return dict(zip(names, array)), facts
