"""Checks of data sets, readers and writers: good ones pass, bad ones are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gen_core.dataset import Dataset, Split
from gen_core.errors import DataError
from gen_core.testing import (
    check_dataset,
    check_reader,
    check_writer,
)
from gen_core.volume import Sample, VolumeSpec, content_hash
from gen_core.writer import RawVolume, Reader, Writer

C, D, H, W = 2, 4, 6, 8


# data sets


class Numbers(Dataset):
    """Noise volumes, four of training and two of validation."""

    spec = VolumeSpec(size=(D, H, W), channels=("a", "b"), masks=("top",), depth="slices")
    names = {"train": ("s0", "s1", "s2", "s3"), "val": ("s4", "s5")}

    def split(self, name):
        return NumbersSplit(self, self.names[name])

    def read(self, name):
        rng = np.random.default_rng(int(name[1:]))
        x = rng.uniform(-1, 1, self.spec.shape).astype(np.float32)
        top = np.zeros((1, H, W), bool)
        top[:, : H // 2] = True
        return Sample(x, name, name, content_hash(x), masks={"top": top})


class NumbersSplit(Split):
    def __init__(self, data, names):
        self.data, self.names = data, names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, i):
        return self.data.read(self.names[i])

    def view(self, i, draw):
        sample = self[i]
        return self.data.flip(sample) if draw % 2 and hasattr(self.data, "flip") else sample


class Overlap(Numbers):
    names = {"train": ("s0", "s1"), "val": ("s1", "s2")}


class Empty(Numbers):
    names = {"train": ("s0",), "val": ()}


class OneSubject(Numbers):
    def read(self, name):
        sample = super().read(name)
        sample.subject = "only"
        return sample


class SharedSubject(Numbers):
    def read(self, name):
        sample = super().read(name)
        sample.subject = "s0" if name in ("s0", "s5") else name
        return sample


class Cached(Numbers):
    def __init__(self):
        self.kept = {}

    def read(self, name):
        return self.kept.setdefault(name, super().read(name))


class Drifts(Numbers):
    count = 0

    def read(self, name):
        sample = super().read(name)
        Drifts.count += 1
        sample.x[0, 0, 0, 0] = 1 / Drifts.count
        return sample


class TooLarge(Numbers):
    def read(self, name):
        sample = super().read(name)
        sample.x *= 2
        return sample


class Unlisted(Numbers):
    spec = VolumeSpec(size=(D, H, W), channels=("a", "b"))


class RandomViews(Numbers):
    def flip(self, sample):
        sample.x = sample.x * np.float32(np.random.uniform())
        return sample


class LosesMasks(Numbers):
    def flip(self, sample):
        sample.masks = {}
        return sample


class FallingBands(Numbers):
    spec = VolumeSpec(size=(D, H, W), channels=("a", "b"), masks=("top",), wavelength_nm=(4.0, 3.0, 2.0, 1.0))


@pytest.mark.parametrize("cls", [Numbers, OneSubject])
def test_a_good_data_set_passes(cls):
    check_dataset(cls())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Overlap, "id 's1' is in both 'train' and 'val'"),
        (SharedSubject, "subject 's0' is in both"),
        (Empty, r"split\('val'\) is empty"),
        (Cached, "not the same when read again"),
        (Drifts, "not the same when read again"),
        (TooLarge, r"values leave \[-1, 1\]"),
        (Unlisted, r"spec.masks does not name \['top'\]"),
        (RandomViews, r"not a function of \(seed, i, draw\)"),
        (LosesMasks, "has other masks than the volume"),
        (FallingBands, "wavelength_nm does not rise"),
    ],
)
def test_a_bad_data_set_is_told_in_one_sentence(cls, message):
    with pytest.raises(AssertionError, match=message):
        check_dataset(cls())


# readers and writers


class GoodWriter(Writer):
    def write(self, stem, volume, spec, info, masks=None):
        from gen_core import atomic

        file = stem.with_name(stem.name + ".raw")
        atomic.write_bytes(file, volume.astype("<f4").tobytes())
        side = stem.with_name(stem.name + ".json")
        atomic.write_json(side, {"shape": volume.shape, **info})
        return [file, side]


class LeavesPartial(GoodWriter):
    def write(self, stem, volume, spec, info, masks=None):
        (stem.parent / "x.partial7").write_text("x")
        return super().write(stem, volume, spec, info)


class NamesAbsent(GoodWriter):
    def write(self, stem, volume, spec, info, masks=None):
        return [*super().write(stem, volume, spec, info), stem.with_suffix(".hdr")]


class Elsewhere(GoodWriter):
    def write(self, stem, volume, spec, info, masks=None):
        return super().write(stem.parent / "volume", volume, spec, info)


class Scales(GoodWriter):
    def write(self, stem, volume, spec, info, masks=None):
        volume /= 2
        return super().write(stem, volume, spec, info)


class Rounds(GoodWriter):
    def write(self, stem, volume, spec, info, masks=None):
        return super().write(stem, volume.round(), spec, info)


def read_raw(path: Path) -> np.ndarray:
    shape = json.loads(path.with_suffix(".json").read_text())["shape"]
    return np.frombuffer(path.read_bytes(), "<f4").reshape(shape)


def test_a_good_writer_passes(tmp_path):
    check_writer(GoodWriter(), tmp_path, read=read_raw)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (LeavesPartial, r"leaves files it does not name: \['x.partial7'\]"),
        (NamesAbsent, "sample-000003.hdr, which is not there"),
        (Elsewhere, "not beside the stem"),
        (Scales, "changes the volume it is given"),
        (Rounds, "other values are read back"),
    ],
)
def test_a_bad_writer_is_told_in_one_sentence(cls, message, tmp_path):
    with pytest.raises(AssertionError, match=message):
        check_writer(cls(), tmp_path, read=read_raw)


class GoodReader(Reader):
    def recognizes(self, path):
        return path.is_file() and path.read_bytes()[:3] == b"CUB"

    def open(self, path, **options):
        if not self.recognizes(path):
            raise DataError(f"{path}: no cube file")
        data = path.read_bytes()[3:]
        if len(data) != 24:
            raise DataError(f"{path}: {len(data)} bytes, expected 24")
        return RawVolume(np.frombuffer(data, np.uint8).reshape(2, 3, 4), "byx", np.array([500.0, 600.0]))


class Trusting(GoodReader):
    def open(self, path, **options):
        data = path.read_bytes()[3:].ljust(24)[:24]
        return RawVolume(np.frombuffer(data, np.uint8).reshape(2, 3, 4), "byx")


class Anonymous(GoodReader):
    def open(self, path, **options):
        try:
            return super().open(path)
        except DataError:
            raise DataError("no cube file") from None


class RaisesInRecognizes(GoodReader):
    def recognizes(self, path):
        return path.read_bytes()[:3] == b"CUB"


class TwoAxes(GoodReader):
    def open(self, path, **options):
        raw = super().open(path)
        raw.axes = "yx"
        return raw


class ManyWavelengths(GoodReader):
    def open(self, path, **options):
        raw = super().open(path)
        raw.wavelength_nm = np.arange(3.0)
        return raw


@pytest.fixture
def cube(tmp_path):
    path = tmp_path / "x.cub"
    path.write_bytes(b"CUB" + bytes(range(24)))
    return path


def test_a_good_reader_passes(cube):
    check_reader(GoodReader(), cube, np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    with pytest.raises(AssertionError, match="other values than the file holds"):
        check_reader(GoodReader(), cube, np.zeros((2, 3, 4), np.uint8))


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Trusting, "raises FileNotFoundError"),
        (Anonymous, "does not name the file absent.cub"),
        (RaisesInRecognizes, "recognizes raises FileNotFoundError"),
        (TwoAxes, "axes 'yx' do not name the 3 axes"),
        (ManyWavelengths, "wavelength_nm is not one value for 2 bands"),
    ],
)
def test_a_bad_reader_is_told_in_one_sentence(cls, message, cube):
    with pytest.raises(AssertionError, match=message):
        check_reader(cls(), cube)
