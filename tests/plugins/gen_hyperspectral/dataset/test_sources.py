"""Whose readers open the files of a data set: ours, and those that anyone registers."""

import sys
import types

import numpy as np
import pytest

from gen_core.dataset import DatasetContext
from gen_core.errors import DataError
from gen_core.hooks import hookimpl
from gen_core.inspect import inspect_path
from gen_core.options import SplitOptions, VolumeOptions
from gen_core.registry import Registry
from gen_hyperspectral.dataset.dataset import build
from gen_hyperspectral.dataset.readers import cube_readers
from gen_hyperspectral.dataset.sources import find_sources
from gen_hyperspectral.dataset_options import CubeScale, Hyperspectral

READER = '''
"""A third party's reader of .toy files: three sizes and a type in a line of text, then the values, band by band."""
import numpy as np
from attrs import frozen
from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader

@frozen
class Toy:
    """No settings."""

class ToyFiles(Reader):
    def recognizes(self, path):
        return path.suffix == ".toy"

    def open(self, path, **_):
        head, _, data = path.read_bytes().partition(b"\\n")
        if head == b"pixels":
            return RawVolume(np.zeros((3, 4, 5)), "zyx")
        if head == b"boom":
            raise IndexError("list index out of range")
        shape = [int(n) for n in head.split()]
        if np.prod(shape) * 2 != len(data):
            raise DataError(f"{path}: sizes do not fit the file")
        return RawVolume(np.frombuffer(data, "<u2").reshape(shape), "byx", np.linspace(450.0, 900.0, shape[0]))

def build(options, context):
    return ToyFiles()
'''
CUBE = np.random.default_rng(0).integers(0, 60000, (12, 9, 5)).astype(np.uint16)


@pytest.fixture
def registry(monkeypatch, tmp_path_factory):
    """The installed parts and a plugin of someone else's; whoever asks for the registry gets this one."""
    package = tmp_path_factory.mktemp("toy")
    (package / "gen_toy_reader.py").write_text(READER)
    monkeypatch.syspath_prepend(package)
    monkeypatch.delitem(sys.modules, "gen_toy_reader", raising=False)
    plugin = types.ModuleType("gen_toy_plugin")

    def register_readers(register):
        for name, builder in (("toy", "gen_toy_reader:build"), ("absent", "gen_not_installed:build")):
            register(name, options="gen_toy_reader:Toy", build=builder, version=3, summary="Toy files.")

    plugin.register_readers = hookimpl(register_readers)
    made = Registry.load("off")
    made.add(plugin, "toy", "gen-toy", "0.1")
    assert made.problems == []
    monkeypatch.setattr(Registry, "load", classmethod(lambda cls, allow=None: made))
    return made


def write(folder, name="eye", cube=CUBE):
    data = cube.transpose(2, 0, 1)
    (folder / f"{name}.toy").write_bytes(" ".join(map(str, data.shape)).encode() + b"\n" + data.tobytes())


def dataset(root, tmp_path):
    options = Hyperspectral(root=str(root), scale=CubeScale("fixed", lo=(0.0,), hi=(60000.0,)))
    volume = VolumeOptions((3, 7, 5), (450.0, 562.5, 900.0))
    return build(options, DatasetContext(volume, SplitOptions(val=0.0), 0, tmp_path / "cache"))


def test_a_reader_that_someone_registers_opens_files_of_the_data_set_and_of_inspect_alike(registry, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    write(theirs)
    np.save(ours / "eye.npy", CUBE)
    (ours / "eye.csv").write_text("nm\n" + "\n".join(map(str, np.linspace(450.0, 900.0, 5))))
    (a,), (b,) = (dataset(root, tmp_path).split("train") for root in (ours, theirs))
    assert a.x.tobytes() == b.x.tobytes() and a.hash == b.hash
    (source,) = find_sources(Hyperspectral(root=str(theirs)))
    assert source.reader_facts == ["ToyFiles", 3] and source.files == (theirs / "eye.toy",)
    assert inspect_path(theirs / "eye.toy", registry)["reader"] == "toy"


def test_ours_are_asked_first_and_readers_without_bands_never(registry):
    readers, told = cube_readers(Hyperspectral(axes="byx"), registry)
    names = [r.name for r in readers]
    assert names[-1] == "toy" and {"npy", "envi", "mat", "hdf5", "tiff", "zarr", "nifti-cube"} == set(names[:-1])
    assert next(r for r in readers if r.name == "npy").reader.options.axes == "byx"
    assert len(told) == 1 and "'absent'" in told[0] and "gen_not_installed" in told[0]


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"9 9 9\nshort", "sizes do not fit the file"),
        (b"pixels\n", r"reader 'toy' gives axes 'zyx', expected y, x and b"),
        (b"boom\n", r"reader 'toy' fails: IndexError: list index out of range"),
    ],
)
def test_what_a_foreign_reader_does_wrong_is_one_line(content, expected, registry, tmp_path):
    (tmp_path / "a.toy").write_bytes(content)
    with pytest.raises(DataError, match=expected) as error:
        dataset(tmp_path, tmp_path / "work").prepare()
    assert "a.toy" in str(error.value) and "\n" not in str(error.value)


def test_where_there_is_no_cube_the_formats_and_missing_packages_are_told(registry, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no cube \(envi, .*toy\) in .*; or use the phantom .*gen_not_installed"):
        find_sources(Hyperspectral(root=str(tmp_path)))


def test_folders_that_are_cubes_are_one_source_each_and_keep_their_names(tmp_path):
    import tifffile
    import zarr

    for subject in ("p1", "p2"):
        inside = tmp_path / subject / "eye.2020"
        inside.mkdir(parents=True)
        for i in range(3):
            tifffile.imwrite(inside / f"b{i}.tif", CUBE[:, :, i], metadata=None)
        zarr.create_array(tmp_path / subject / "other.zarr", data=CUBE)
    found = find_sources(Hyperspectral(root=str(tmp_path), subject="0"))
    assert [s.id for s in found] == ["p1/eye.2020", "p1/other", "p2/eye.2020", "p2/other"]
    assert [s.subject for s in found] == ["p1", "p1", "p2", "p2"]
    (alone,) = find_sources(Hyperspectral(root=str(tmp_path / "p1" / "other.zarr")))
    assert alone.id == "other" and len(alone.files) > 1


def test_names_of_one_stem_keep_their_suffix(tmp_path):
    np.save(tmp_path / "a.npy", CUBE)
    np.savez(tmp_path / "a.npz", CUBE)
    assert [s.id for s in find_sources(Hyperspectral(root=str(tmp_path)))] == ["a.npy", "a.npz"]
