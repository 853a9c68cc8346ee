"""One cube in any container gives one tensor, one content and one spec, bit for bit; and what is found where."""

import hashlib
import importlib.util
import json
from pathlib import Path

import attrs
import numpy as np
import pytest

from gen_core.dataset import DatasetContext
from gen_core.errors import DataError
from gen_core.inspect import inspect_path
from gen_core.options import SplitOptions, VolumeOptions
from gen_core.registry import Registry
from gen_hyperspectral.cubes import chunked as chunked_cube
from gen_hyperspectral.dataset.dataset import build
from gen_hyperspectral.dataset.open_source import open_source
from gen_hyperspectral.dataset.sources import find_sources
from gen_hyperspectral.dataset_options import CubeScale, Hyperspectral
from gen_hyperspectral.prepare import preprocess

_spec = importlib.util.spec_from_file_location("written_containers", Path(__file__).with_name("written_containers.py"))
containers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(containers)
CONTAINERS, WAVELENGTH = containers.CONTAINERS, containers.WAVELENGTH


def volume_of(name, folder, how):
    """What the data set makes of a cube in one container: sample, spec, record and content."""
    folder.mkdir()
    CONTAINERS[name](folder, "eye", containers.cube())
    options = Hyperspectral(root=str(folder), scale=CubeScale("fixed", lo=(0.0,), hi=(60000.0,)), units="counts", **how)
    volume = VolumeOptions((3, 19, 23), (455.0, 550.0, 890.0))
    dataset = build(options, DatasetContext(volume, SplitOptions(val=0.0), 0, folder.parent / "cache"))
    record = dataset.prepare()
    (sample,) = dataset.split("train")
    return sample, dataset, record


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """Blocks of a few rows; strips and scratch files instead of memory."""
    if request.param == "many blocks":
        monkeypatch.setattr(preprocess, "BLOCK_BYTES", 3 * 37 * 4 * 6)
        monkeypatch.setattr(chunked_cube, "RAM_BYTES", 1000)
        monkeypatch.setattr(chunked_cube, "STRIP_BYTES", 1 << 12)
        monkeypatch.setattr(chunked_cube, "HAND_BACK", 1000)
        monkeypatch.setattr(chunked_cube, "HANDFUL_BYTES", 500)
    return request.param


def test_one_cube_gives_one_tensor_in_every_container(blocks, tmp_path):
    how = {"bands": "gaussian", "fwhm_nm": 80.0} if blocks == "many blocks" else {}
    assert len(CONTAINERS) >= 14
    first, same, record_ = volume_of("npy", tmp_path / "npy-0", how)
    assert first.x.std() > 0.1
    for name in CONTAINERS:
        sample, dataset, record = volume_of(name, tmp_path / f"of {name}", how)
        assert sample.x.tobytes() == first.x.tobytes(), name
        assert sample.hash == first.hash and sample.id == first.id == "eye" and sample.subject == first.subject, name
        assert attrs.evolve(dataset.spec, scale=None) == attrs.evolve(same.spec, scale=None), name
        assert dataset.spec.wavelength_nm == (455.0, 550.0, 890.0)
        assert record["notes"] == record_["notes"] == [], name
        assert record["splits"] == record_["splits"], name


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_cube_with_its_wavelengths(name, tmp_path):
    CONTAINERS[name](tmp_path, "eye", containers.cube())
    options = Hyperspectral(root=str(tmp_path))
    (source,) = find_sources(options)
    raw = open_source(source, options)
    assert raw.array.shape == containers.SHAPE and raw.axes == "yxb"
    assert np.array_equal(np.asarray(raw.array), containers.cube())
    assert raw.wavelength_nm.tolist() == WAVELENGTH and raw.warnings == []
    assert all(p.is_file() for p in source.files)


@pytest.mark.parametrize(
    "name", ["MAT v7.3", "HDF5 gzip", "HDF5 planes", "TIFF tiles", "TIFF folder", "zarr 2", "zarr 3"]
)
def test_inspection_tells_the_same_of_every_container(name, tmp_path):
    CONTAINERS[name](tmp_path, "eye", containers.cube())
    path = next(p for p in sorted(tmp_path.iterdir()) if p.suffix != ".json")
    found = inspect_path(path, Registry.load("off"))
    cube = np.ascontiguousarray(containers.cube(), "<f4")
    assert found["shape"] == list(containers.SHAPE) and found["axes"] == "yxb" and found["dtype"] == "uint16"
    assert found["sha_f32"] == hashlib.sha256(cube.tobytes()).hexdigest()
    assert found["wavelength_nm"] == WAVELENGTH and found["warnings"] == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    "name", ["MAT v7.3", "HDF5", "HDF5 gzip", "TIFF stack", "TIFF packed", "nii", "nii.gz", "zarr 2", "zarr 3"]
)
def test_damage_is_a_cube_or_one_line_that_names_the_file(name, tmp_path, rounds=25):
    """Bytes changed, dropped and added, mostly where headers are; counted so that the damage is real."""
    rng, refused = np.random.default_rng(0), 0
    CONTAINERS[name](tmp_path, "eye", containers.cube(shape=(13, 11, 5)))
    options = Hyperspectral(root=str(tmp_path))
    (source,) = find_sources(options)
    named = [p for p in source.files if p.name == ".zarray" or p.parent.name == "cube"]
    file = (named or [p for p in source.files if p.suffix != ".json"])[0]
    whole = file.read_bytes()
    for _ in range(rounds):
        data = bytearray(whole)
        for _ in range(3):
            at = int(rng.integers(min(len(data), 2500) + 1))
            data[at : at + int(rng.integers(3))] = rng.bytes(int(rng.integers(3)))
        file.write_bytes(data[: int(rng.integers(1, len(data)))] if rng.random() < 0.3 else data)
        try:
            assert np.asarray(open_source(source, options).array).nbytes < 1 << 22
        except DataError as error:
            refused += 1
            assert str(source.path.parent) in str(error) and "\n" not in str(error)
    assert refused > rounds // 4
