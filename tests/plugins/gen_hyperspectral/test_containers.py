"""One cube in any container gives one tensor, one content and one spec, bit for bit; and what is found where."""

import importlib.util
from pathlib import Path

import attrs
import numpy as np
import pytest

from gen_core.dataset import DatasetContext
from gen_core.options import SplitOptions, VolumeOptions
from gen_hyperspectral import chunked_cube, preprocess
from gen_hyperspectral.dataset import build
from gen_hyperspectral.dataset_options import CubeScale, Hyperspectral
from gen_hyperspectral.sources import find_sources, open_source

_spec = importlib.util.spec_from_file_location("containers", Path(__file__).with_name("containers.py"))
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
