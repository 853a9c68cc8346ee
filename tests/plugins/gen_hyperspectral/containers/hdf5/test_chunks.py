"""Chunks are found and unpacked as the HDF5 library itself would: every kind of table, holes, skipped filters."""

import zlib

import h5py
import numpy as np
import pytest

from gen_core.errors import DataError
from gen_hyperspectral.containers.hdf5 import library as hdf5_library
from gen_hyperspectral.containers.hdf5.reader import build
from gen_hyperspectral.reader_options import Hdf5Reader

READER = build(Hdf5Reader())
SHAPE, CHUNK = (13, 17, 5), (5, 6, 2)
GROWING = {"one axis": (None, 17, 5), "two axes": (None, None, 5), "none": SHAPE}


def library_reads(path):
    with h5py.File(path) as file:
        return file["cube"][()]


def we_read(path):
    return np.asarray(READER.open(path).array)


@pytest.mark.parametrize("block", [0, 2048])
@pytest.mark.parametrize("version", ["earliest", "v110", "latest"])
@pytest.mark.parametrize("growing", GROWING)
def test_every_kind_of_chunk_table_with_holes_is_read_as_the_library_does(growing, version, block, tmp_path):
    """Trees of both versions, fixed and extensible arrays, behind a user block or not."""
    values = np.random.default_rng(0).integers(0, 60000, SHAPE).astype(np.uint16)
    for packing in ({}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf"}):
        path = tmp_path / "a.h5"
        with h5py.File(path, "w", libver=version, userblock_size=block) as file:
            data = file.create_dataset(
                "cube", SHAPE, "u2", chunks=CHUNK, maxshape=GROWING[growing], fillvalue=7, **packing
            )
            data[:5, :6], data[10:, 12:, 4:] = values[:5, :6], values[10:, 12:, 4:]
        found = we_read(path)
        assert found.dtype == np.uint16 and np.array_equal(found, library_reads(path)), packing
        assert found[0, 0, 0] == values[0, 0, 0] and found[5, 0, 0] == 7


@pytest.mark.parametrize("early", [False, True])
def test_a_single_chunk_and_chunks_without_a_table_are_found(early, tmp_path):
    values = np.random.default_rng(1).integers(0, 9, SHAPE).astype(np.uint16)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(CHUNK if early else SHAPE)
    if early:  # all chunks in a row: nothing need say where they lie
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        space = h5py.h5s.create_simple(SHAPE)
        data = h5py.Dataset(h5py.h5d.create(file.id, b"cube", h5py.h5t.NATIVE_UINT16, space, plist))
        data[...] = values
    assert np.array_equal(we_read(tmp_path / "a.h5"), values)


def test_a_filter_that_was_left_out_of_one_chunk_is_not_undone_there(tmp_path):
    values = np.arange(60, dtype=np.uint16).reshape(CHUNK)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("cube", (10, 6, 2), "u2", chunks=CHUNK, compression="gzip", shuffle=True)
        data.id.write_direct_chunk((0, 0, 0), values.tobytes(), 0b11)
        data.id.write_direct_chunk((5, 0, 0), zlib.compress(values.tobytes()), 0b01)
    assert np.array_equal(we_read(path), np.concatenate([values, values]))
    assert np.array_equal(we_read(path), library_reads(path))


def test_a_file_that_is_cut_off_after_it_was_opened_is_told(tmp_path):
    path = tmp_path / "a.h5"
    values = np.random.default_rng(2).integers(0, 60000, SHAPE).astype(np.uint16)
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", data=values, chunks=CHUNK, compression="gzip")
    raw = READER.open(path)
    with raw.array.pieces.opened() as load:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(size // 2)
        with pytest.raises(DataError, match=r"a\.h5: 'cube', chunk at \[10, 12, 4\]: .* cut off"):
            load((2, 2, 2))
    with pytest.raises(DataError, match=r"a\.h5: damaged or no HDF5 file"):
        np.asarray(raw.array)


def test_the_file_is_looked_at_when_it_is_opened_and_its_chunks_only_when_they_are_read(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", SHAPE, "u2", chunks=CHUNK, compression="gzip")[...] = 1
        file["wavelength_nm"] = np.arange(5.0)
    asked, ask = [], hdf5_library.Library.ask
    monkeypatch.setattr(
        hdf5_library.Library, "ask", lambda self, do, *a, **words: asked.append(do) or ask(self, do, *a, **words)
    )
    raw = READER.open(path)
    assert asked == ["look", "about"]
    assert (np.asarray(raw.array) == 1).all()
    assert asked == ["look", "about", "places"]  # values of gzip never go through the library


@pytest.mark.parametrize("version", ["earliest", "latest"])
def test_an_array_that_shrank_and_grew_again_is_read_as_the_library_does(version, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=version) as file:
        data = file.create_dataset("cube", SHAPE, "u2", chunks=CHUNK, maxshape=(None, None, 5), compression="gzip")
        data[...] = 3
        data.resize((4, 7, 5))
    assert np.array_equal(we_read(path), np.full((4, 7, 5), 3))
    with h5py.File(path, "r+") as file:
        file["cube"].resize((12, 9, 5))
    assert np.array_equal(we_read(path), library_reads(path)) and we_read(path)[11, 8, 4] == 0
