"""Contract checks of data sets, readers and writers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gen_core import atomic
from gen_core.dataset import Dataset, Split
from gen_core.errors import DataError
from gen_core.testing.say import require, require_json
from gen_core.volume import Sample, VolumeSpec, check_sample
from gen_core.writer import RawVolume, Reader, Writer


def check_dataset(dataset: Dataset, splits: tuple[str, ...] = ("train", "val"), volumes: int = 3) -> None:
    """A data set: spec, splits without overlap, reading and views that are pure functions.

    volumes: how many of each split are read. Raises: AssertionError with one sentence.
    """
    name = type(dataset).__name__
    require_json(dataset.fingerprint(), f"{name}.fingerprint()")
    require(dataset.fingerprint() == dataset.fingerprint(), f"{name}.fingerprint() changes from call to call")
    prepared = dataset.prepare()
    require_json(prepared, f"{name}.prepare()")
    _check_spec(dataset.spec, name)
    owner: dict[str, dict[str, str]] = {"id": {}, "hash": {}, "subject": {}}
    for split_name in splits:
        split = dataset.split(split_name)
        at = f"{name}.split('{split_name}')"
        require(isinstance(split, Split), f"{at} is no gen_core.dataset.Split")
        require(len(split) > 0, f"{at} is empty")
        _check_reading(split, dataset.spec, at, min(volumes, len(split)))
        for i in range(len(split)) if len(split) <= 64 else range(volumes):
            sample = split[i]
            for what in owner:
                value = getattr(sample, what)
                other = owner[what].setdefault(value, split_name)
                single = what == "subject" and len(owner["subject"]) == 1  # one subject: disjoint regions
                require(
                    other == split_name or single,
                    f"{name}: {what} '{value}' is in both '{other}' and '{split_name}'",
                )


def _check_spec(spec: VolumeSpec, name: str) -> None:
    require(isinstance(spec, VolumeSpec), f"{name}.spec is no VolumeSpec")
    require(len(spec.size) == 3 and min(spec.size) >= 1, f"{name}.spec.size is {spec.size}, expected (D, H, W)")
    require(spec.depth in ("bands", "slices", "none"), f"{name}.spec.depth is '{spec.depth}'")
    if spec.wavelength_nm is not None:
        require(
            len(spec.wavelength_nm) == spec.size[0],
            f"{name}.spec has {len(spec.wavelength_nm)} wavelengths for {spec.size[0]} bands",
        )
        require((np.diff(spec.wavelength_nm) > 0).all(), f"{name}.spec.wavelength_nm does not rise")


def _check_reading(split: Split, spec: VolumeSpec, at: str, volumes: int) -> None:
    first = [split[i] for i in range(volumes)]
    for i, sample in enumerate(first):
        _check_sample(sample, spec, f"{at}[{i}]")
    kept = [sample.x.copy() for sample in first]
    for sample in first:  # a caller may write into what it got
        if sample.x.flags.writeable:
            sample.x[...] = 0
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(split.__getitem__, reversed(range(volumes))))[::-1]
    for i, sample in enumerate(again):
        require(
            np.array_equal(sample.x, kept[i]),
            f"{at}[{i}] is not the same when read again (in another order, by another thread, after a caller "
            "wrote into the first copy)",
        )
        require((sample.id, sample.hash) == (first[i].id, first[i].hash), f"{at}[{i}] changes its id or hash")
    ids = [sample.id for sample in first]
    require(len(set(ids)) == len(ids), f"{at}: two volumes have the same id")
    for draw in (0, 1):
        view, same = split.view(0, draw), split.view(0, draw)
        _check_sample(view, spec, f"{at}.view(0, {draw})")
        equal = np.array_equal(view.x, same.x) and view.masks.keys() == same.masks.keys()
        equal = equal and all(np.array_equal(view.masks[k], same.masks[k]) for k in view.masks)
        require(equal, f"{at}.view(0, {draw}) is not a function of (seed, i, draw)")
        require(
            view.masks.keys() == first[0].masks.keys(),
            f"{at}.view(0, {draw}) has other masks than the volume",
        )


def _check_sample(sample: Any, spec: VolumeSpec, at: str) -> None:
    require(isinstance(sample, Sample), f"{at} is no Sample")
    try:
        check_sample(sample, spec)
    except DataError as error:
        raise AssertionError(f"{at}: {error}") from error
    require(sample.id and sample.subject and sample.hash, f"{at} lacks an id, a subject or a hash")
    unlisted = sorted(set(sample.masks) - set(spec.masks) - {"valid"})
    require(not unlisted, f"{at}: spec.masks does not name {unlisted}")


def check_writer(
    writer: Writer,
    folder: Path,
    spec: VolumeSpec | None = None,
    read: Callable[[Path], np.ndarray] | None = None,
) -> None:
    """A writer in an empty folder: whole files beside the stem or in a folder named after it, twice in a row, once
    with masks; nothing half-written stays.

    read: opens the first file it wrote as (C, D, H, W), to compare values. Raises: AssertionError.
    """
    name = type(writer).__name__
    spec = spec or VolumeSpec(size=(4, 6, 5), wavelength_nm=(500.0, 550.0, 600.0, 650.0), units="reflectance")
    rng = np.random.default_rng(0)
    volume = rng.random(spec.shape, dtype=np.float32) * 100 + 3
    kept, stem = volume.copy(), folder / "sample-000003"
    masks = {"lesion": rng.random(spec.size) > 0.6, "valid": rng.random((1, *spec.size[1:])) > 0.1}
    files, named = [], set()
    for given in ({}, {"masks": masks}):  # the second time over the first
        files = writer.write(stem, volume, spec, {"synthetic": True, "seed": 3}, **given)
        named |= {f.relative_to(folder).parts[0] for f in files if folder in f.parents}
        require(files, f"{name}.write returns no file")
        for file in files:
            require(
                file.is_file() and file.stat().st_size > 0,
                f"{name}.write names {file.name}, which is not there",
            )
            require(
                folder in file.parents and file.relative_to(folder).parts[0].startswith(stem.name),
                f"{name}.write leaves {file}, not beside the stem {stem}",
            )
        require(np.array_equal(volume, kept), f"{name}.write changes the volume it is given")
    stray = {p.name for p in folder.iterdir()} - named
    require(not stray, f"{name}.write leaves files it does not name: {sorted(stray)}")
    require(not [p for p in folder.rglob("*") if atomic.SUFFIX in p.name], f"{name}.write leaves temporary files")
    if read:
        back = np.asarray(read(files[0]))
        require(back.shape == volume.shape, f"{name}: read back as {back.shape}, written {volume.shape}")
        require(np.allclose(back, volume, rtol=1e-6), f"{name}: other values are read back than were written")


def check_reader(reader: Reader, path: Path, array: np.ndarray | None = None) -> None:
    """A reader on a file it should open, and on files it should not.

    array: what `open(path).array` should hold. Raises: AssertionError with one sentence.
    """
    name = type(reader).__name__
    require(reader.recognizes(path) is True, f"{name}.recognizes({path.name}) is not True")
    raw = reader.open(path)
    require(isinstance(raw, RawVolume), f"{name}.open gives {type(raw).__name__}, not RawVolume")
    require(
        len(raw.axes) == np.ndim(raw.array) == len(set(raw.axes)),
        f"{name}.open: axes '{raw.axes}' do not name the {np.ndim(raw.array)} axes of the array",
    )
    if "b" in raw.axes:
        bands = raw.array.shape[raw.axes.index("b")]
        for what in ("wavelength_nm", "bad_bands"):
            value = getattr(raw, what)
            require(
                value is None or len(value) == bands,
                f"{name}.open: {what} is not one value for {bands} bands",
            )
    if array is not None:
        require(
            np.array_equal(np.asarray(raw.array), array),
            f"{name}.open gives other values than the file holds",
        )
    with tempfile.TemporaryDirectory() as folder:
        absent = Path(folder) / f"absent{path.suffix}"
        garbage = Path(folder) / f"garbage{path.suffix}"
        garbage.write_bytes(b"\x00\x01 not what it says it is\n" * 9)
        for file in (absent, garbage, Path(folder)):
            try:
                known = reader.recognizes(file)
            except Exception as error:
                raise AssertionError(f"{name}.recognizes raises {type(error).__name__} for {file.name}") from error
            require(isinstance(known, bool | np.bool_), f"{name}.recognizes gives {known!r}, not True or False")
        for file in (absent, garbage):
            _refuses(reader, file, name)
        if os.path.getsize(path) > 1 and path.is_file():
            cut = Path(folder) / f"cut{path.suffix}"
            cut.write_bytes(path.read_bytes()[: os.path.getsize(path) // 2])
            _refuses(reader, cut, name)


def _refuses(reader: Reader, file: Path, name: str) -> None:
    try:
        raw = reader.open(file)
        np.asarray(raw.array).sum()  # lazy arrays may fail only now
    except DataError as error:
        require(file.name in str(error), f"{name}.open: the message does not name the file {file.name}: {error}")
    except Exception as error:
        raise AssertionError(
            f"{name}.open({file.name}) raises {type(error).__name__} ({error}), expected DataError"
        ) from error
    else:
        raise AssertionError(f"{name}.open({file.name}) opens a file that is {file.stem}")
