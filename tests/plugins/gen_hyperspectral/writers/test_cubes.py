"""Written cubes are read back bit by bit: by our readers, by `spectral` and by h5py."""

import builtins
import json
import warnings

import numpy as np
import pytest

from gen_core.errors import DataError, MissingError
from gen_core.registry import Registry
from gen_core.testing import check_writer
from gen_core.volume import VolumeSpec
from gen_hyperspectral import plugin
from gen_hyperspectral.containers import envi as read_envi
from gen_hyperspectral.containers import npy as read_npy
from gen_hyperspectral.reader_options import EnviReader, NpyReader
from gen_hyperspectral.writer_options import EnviWriter, Hdf5Writer, NpyWriter
from gen_hyperspectral.writers import envi as write_envi
from gen_hyperspectral.writers import hdf5 as write_hdf5
from gen_hyperspectral.writers import npy as write_npy

SPEC = VolumeSpec(size=(4, 6, 5), wavelength_nm=(500.0, 550.5, 600.1, 2.0 / 3 * 1000), units="reflectance")
INFO = {"synthetic": True, "id": "sample-000003", "seed": 7, "sampler": "ddim {eta = 0}", "model": "sha\n256"}


@pytest.fixture
def volume():
    return np.random.default_rng(0).normal(size=SPEC.shape).astype(np.float32)


def test_npy_is_read_back_bit_equal_with_its_company(volume, tmp_path):
    files = write_npy.build(NpyWriter()).write(tmp_path / "s.1", volume, SPEC, INFO)
    assert [f.name for f in files] == ["s.1.npy", "s.1.json"]
    raw = read_npy.build(NpyReader()).open(files[0])
    assert np.array_equal(raw.array.transpose(2, 0, 1)[None], volume)
    assert raw.wavelength_nm.tolist() == list(SPEC.wavelength_nm)
    assert raw.meta["units"] == "reflectance" and raw.warnings == []
    side = json.loads(files[1].read_text())
    assert side["info"] == INFO and "SYNTHETIC" in side["description"]


def test_envi_is_read_back_bit_equal_here_and_by_spectral(volume, tmp_path):
    files = write_envi.build(EnviWriter()).write(tmp_path / "s.1", volume, SPEC, INFO)
    assert [f.name for f in files] == ["s.1.hdr", "s.1.dat"]
    raw = read_envi.build(EnviReader()).open(files[0])
    assert np.array_equal(raw.array.transpose(2, 0, 1)[None], volume)
    assert raw.wavelength_nm.tolist() == list(SPEC.wavelength_nm) and raw.warnings == []
    assert raw.meta["units"] == "reflectance" and "SYNTHETIC" in raw.meta["description"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spectral = pytest.importorskip("spectral")
        image = spectral.envi.open(str(files[0]), str(files[1]))
    assert np.array_equal(np.asarray(image.load()).transpose(2, 0, 1)[None], volume)
    assert image.bands.centers == list(SPEC.wavelength_nm) and image.bands.band_unit == "Nanometers"
    assert "SYNTHETIC" in image.metadata["description"]


@pytest.mark.parametrize("level", [0, 4])
def test_hdf5_is_read_back_bit_equal_and_is_the_same_every_time(level, volume, tmp_path):
    h5py = pytest.importorskip("h5py")
    writer = write_hdf5.build(Hdf5Writer(compression=level))
    (path,) = writer.write(tmp_path / "s", volume, SPEC, INFO)
    with h5py.File(path) as file:
        assert np.array_equal(file["cube"][:][None], volume)
        assert file["cube"].attrs["wavelength_nm"].tolist() == list(SPEC.wavelength_nm)
        assert file["cube"].attrs["units"] == "reflectance" and file["cube"].attrs["axes"] == "byx"
        assert file.attrs["synthetic"] and json.loads(file.attrs["info"]) == INFO
    first = path.read_bytes()
    writer.write(tmp_path / "s", volume, SPEC, INFO)
    assert path.read_bytes() == first


@pytest.mark.parametrize("name", ["npy", "envi", "hdf5"])
def test_every_writer_keeps_the_contract_and_is_found_by_name(name, tmp_path):
    registry = Registry()
    registry.add(plugin, "hyperspectral", "gen-imaging", "0")
    component = registry.get("writer", name)
    writer = component.build(component.options_class()(), None)
    check_writer(writer, tmp_path)
    spec = VolumeSpec(size=(2, 3, 4), channels=("a", "b"))
    both = np.zeros((2, 2, 3, 4), np.float32)
    if name == "npy":
        files = writer.write(tmp_path / "two", both, spec, {})
        assert np.load(files[0]).shape == (2, 2, 3, 4)
    else:
        with pytest.raises(DataError, match=f"'{name}' holds one channel, the volumes have 2"):
            writer.write(tmp_path / "two", both, spec, {})


def test_without_h5py_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kw):
        if name == "h5py":
            raise ModuleNotFoundError("No module named 'h5py'", name="h5py")
        return real(name, *args, **kw)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingError, match=r"hdf5.*extra `hyper`"):
        write_hdf5.build(Hdf5Writer())


def test_a_volume_without_wavelengths_and_units_is_written(volume, tmp_path):
    spec = VolumeSpec(size=(4, 6, 5))
    (header, _) = write_envi.build(EnviWriter()).write(tmp_path / "a", volume, spec, {})
    assert read_envi.build(EnviReader()).open(header).wavelength_nm is None
    assert "synthetic data = NO" in header.read_text()


def test_masks_go_beside_or_into_the_file(volume, tmp_path):
    rng = np.random.default_rng(1)
    masks = {"file": rng.random(SPEC.size) > 0.5, "optic disc": rng.random((1, 6, 5)) > 0.5}
    files = write_npy.build(NpyWriter()).write(tmp_path / "n", volume, SPEC, INFO, masks)
    assert [f.name for f in files] == ["n.npy", "n.json", "n-masks.npz"]
    first = files[-1].read_bytes()
    with np.load(files[-1]) as found:
        assert sorted(found.files) == ["file", "optic disc"]
        assert all(np.array_equal(found[name], masks[name]) for name in masks)
    assert write_npy.build(NpyWriter()).write(tmp_path / "n", volume, SPEC, INFO, masks)[-1].read_bytes() == first

    files = write_envi.build(EnviWriter()).write(tmp_path / "e", volume, SPEC, INFO, masks)
    assert [f.name for f in files[2::2]] == ["e-mask-file.hdr", "e-mask-optic_disc.hdr"]
    for header, mask in zip(files[2::2], masks.values()):
        raw = read_envi.build(EnviReader()).open(header)
        assert raw.array.dtype == np.uint8 and np.array_equal(raw.array.transpose(2, 0, 1), mask)

    h5py = pytest.importorskip("h5py")
    (path,) = write_hdf5.build(Hdf5Writer()).write(tmp_path / "h", volume, SPEC, INFO, masks)
    with h5py.File(path) as file:
        assert all(np.array_equal(file["masks"][name][:], mask) for name, mask in masks.items())
