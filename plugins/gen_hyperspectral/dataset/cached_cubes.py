"""Physical values and masks of cubes, read and prepared once: what a data set keeps in its cache."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gen_core.errors import DataError
from gen_core.volume_cache import key_of, source_hash
from gen_core.writer import RawVolume
from gen_hyperspectral.dataset.open_source import open_source
from gen_hyperspectral.dataset.sources import Source
from gen_hyperspectral.prepare.area_resize import area_resize
from gen_hyperspectral.prepare.band_blocks import Policy
from gen_hyperspectral.prepare.bands import Selection, evenly, gaussian, nearest
from gen_hyperspectral.prepare.masks import mask_path, read_mask
from gen_hyperspectral.prepare.preprocess import preprocess

VERSION = 2  # of the preprocessing: part of every cache key


class CachedCubes:
    """Volumes and masks of one data set; what is missing in its cache is made when it is asked for."""

    def __init__(self, dataset: Any):
        self.dataset, self.options, self.cache = dataset, dataset.options, dataset.cache
        self._keys: dict[Path, str] = {}

    def key(self, source: Source) -> str:
        """What a cached volume depends on; the files are read once a process."""
        if source.path not in self._keys:
            self._keys[source.path] = self._make_key(source)
        return self._keys[source.path]

    def _make_key(self, source: Source) -> str:
        names = (
            "variable", "axes", "wavelengths_nm", "wavelength_units", "bands", "fwhm_nm", "tolerance_nm", "bad_bands",
            "use_bbl", "nan", "nodata", "saturation", "saturated",
        )  # fmt: skip
        return key_of(
            version=VERSION,
            reader=source.reader_facts,
            files=[source_hash(path, self.cache.folder) for path in source.files],
            settings={name: getattr(self.options, name) for name in names},
            depth=self.dataset.depth,
            targets=self.dataset.targets,
            plane=self.dataset.plane,
        )

    def _selection(self, raw: RawVolume, name: str) -> Selection:
        good = self.dataset.good(raw)
        if self.dataset.targets is None:
            return Selection(evenly(good, None, self.dataset.depth))
        if raw.wavelength_nm is None:
            raise DataError(f"{name}: its wavelengths are unknown; give dataset.wavelengths_nm or a file beside it")
        targets = np.asarray(self.dataset.targets)
        try:
            if self.options.bands == "gaussian":
                return gaussian(raw.wavelength_nm, good, targets, self.options.fwhm_nm)
            return nearest(raw.wavelength_nm, good, targets, self.options.tolerance_nm)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None

    @cached_property
    def _policy(self) -> Policy:
        o = self.options
        return Policy(o.nan, o.nodata, o.saturation, o.saturated)

    def volume(self, source: Source, verify: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
        """The cached physical values (D, H, W) of a cube, NaN where invalid, and the facts of the entry."""

        def shape() -> tuple[int, ...]:
            size = self.dataset.source_size(source)
            assert size is not None, "unreadable files are not in any split"
            return (self.dataset.depth, *(self.dataset.plane or size))

        def fill(out: np.ndarray) -> dict[str, Any]:
            raw = open_source(source, self.options)
            selection = self._selection(raw, str(source.path))
            good = self.dataset.good(raw)
            counts = preprocess(raw, selection, out, self._policy, str(source.path), good, raw.wavelength_nm)
            told = list(raw.warnings)
            grown = [n for n, m in zip(out.shape[1:], raw.array.shape[:2]) if n > m]
            if grown:
                told.append(f"smaller than volume.size ({raw.array.shape[:2]}): enlarged by linear interpolation")
            return {
                "source_size": list(raw.array.shape),
                "warnings": told,
                "missing_values": counts.missing,
                "saturated_values": counts.saturated,
            }

        return self.cache.fetch(self.key(source), shape, "<f4", fill, verify)

    def mask(self, source: Source, name: str) -> np.ndarray | None:
        """The cached mask (H, W) bool beside a cube; None when the file is not there."""
        path = mask_path(source.path, self.options.masks[name])
        if not path.is_file():
            return None
        size = self.dataset.source_size(source)
        assert size is not None, "unreadable files are not in any split"

        def fill(out: np.ndarray) -> dict[str, Any]:
            stored = read_mask(path, size)
            out[:] = stored if stored.shape == out.shape else area_resize(stored, out.shape) >= 0.5
            return {}

        key = key_of(mask=source_hash(path, self.cache.folder), plane=self.dataset.plane, size=size, version=VERSION)
        return self.cache.fetch(key, lambda: self.dataset.plane or size, "|b1", fill)[0]
