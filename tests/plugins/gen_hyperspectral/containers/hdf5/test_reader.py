"""HDF5 cubes: which array, where wavelengths are found, every way of packing, and files that lie."""

import h5py
import numpy as np
import pytest

from gen_core.errors import DataError
from gen_core.testing import check_reader
from gen_core.volume import VolumeSpec
from gen_hyperspectral.containers.hdf5.reader import build
from gen_hyperspectral.reader_options import Hdf5Reader
from gen_hyperspectral.writer_options import Hdf5Writer
from gen_hyperspectral.writers.hdf5 import build as build_writer

READER = build(Hdf5Reader())


@pytest.fixture
def cube():
    return np.random.default_rng(0).integers(0, 60000, (13, 17, 5)).astype(np.uint16)


PACKING = {
    "plain": {},
    "chunked": {"chunks": (5, 13, 5)},
    "gzip": {"chunks": (5, 6, 2), "compression": "gzip"},
    "gzip, shuffled, with checksum": {"chunks": (5, 6, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "checksum only": {"chunks": (5, 6, 2), "fletcher32": True},
    "lzf": {"chunks": (5, 6, 2), "compression": "lzf"},
    "growing": {"chunks": (5, 6, 2), "maxshape": (None, 40, 40), "compression": "gzip"},
}


@pytest.mark.parametrize("packing", PACKING)
@pytest.mark.parametrize("dtype", ["<u2", ">f4", "i1"])
def test_every_packing_and_byte_order_is_read(packing, dtype, cube, tmp_path):
    cube = (cube % 100).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("cube", data=cube, **PACKING[packing])
    check_reader(READER, tmp_path / "a.h5", cube)


def test_several_arrays_are_listed_and_chosen_by_their_path(cube, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["left/eye"], file["right/eye"] = cube, cube[:, :, :3]
        file["masks/vein"] = np.zeros((1, 13, 17), np.uint8)
    with pytest.raises(DataError, match=r"left/eye 13x17x5, right/eye 13x17x3\); choose one with dataset\.variable"):
        READER.open(path)
    assert np.array_equal(READER.open(path, variable="/right/eye").array, cube[:, :, :3])
    with pytest.raises(DataError, match="dataset.variable = 'eye' is no 3-D numeric array here; there are: left/eye"):
        READER.open(path, variable="eye")


def test_wavelengths_come_from_the_array_its_groups_or_a_vector_beside_it(cube, tmp_path):
    nm = [450.0, 500, 550, 600, 900]
    for where in ("array", "group", "root", "vector", "vector of the root", "dimension scale"):
        path = tmp_path / f"{where}.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset("scan/cube", data=cube)
            data.attrs["units"], data.attrs["_FillValue"] = "counts", 7
            if where == "array":
                data.attrs["Wavelengths"], data.attrs["wavelength_units"] = np.array(nm) / 1000, "um"
            elif where == "group":
                file["scan"].attrs["wavelength_nm"] = nm
            elif where == "root":
                file.attrs["wl"], file.attrs["wavelength_units"] = nm, "nm"
            else:
                name = {"vector": "scan/wavelength", "vector of the root": "meta/Wavelength"}.get(where, "wavelength")
                file[name] = nm
                file[name].attrs["units"] = "nm"
                file["elsewhere/wl"] = [1.0, 2.0]  # of another length
                if where == "dimension scale":
                    file["wavelength"].make_scale()
                    data.dims[2].attach_scale(file["wavelength"])
        raw = READER.open(path)
        assert raw.wavelength_nm.tolist() == pytest.approx(nm), where
        assert raw.warnings == [] and raw.meta["units"] == "counts" and raw.nodata == 7, where


def test_our_own_files_are_read_back_with_everything_they_say(cube, tmp_path):
    nm = (450.0, 500.0, 550.0, 600.0, 900.0)
    spec = VolumeSpec(size=(5, 13, 17), wavelength_nm=nm, units="reflectance")
    volume = cube.transpose(2, 0, 1)[None].astype(np.float32)
    masks = {"lesion": np.ones((5, 13, 17), bool)}
    (path,) = build_writer(Hdf5Writer(compression=3)).write(tmp_path / "s", volume, spec, {}, masks)
    raw = READER.open(path)
    assert np.array_equal(np.asarray(raw.array), cube)
    assert raw.wavelength_nm.tolist() == list(nm) and raw.meta["units"] == "reflectance" and raw.warnings == []


def test_values_in_other_files_and_links_out_are_not_followed(cube, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["cube"] = cube
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["cube"] = h5py.ExternalLink("secret.h5", "/cube")
    with pytest.raises(DataError, match=r"link\.h5: no 3-D array"):
        READER.open(tmp_path / "link.h5")
    layout = h5py.VirtualLayout(cube.shape, cube.dtype)
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "cube", cube.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("cube", layout)
    (tmp_path / "raw.bin").write_bytes(cube.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("cube", cube.shape, cube.dtype, external=[(str(tmp_path / "raw.bin"), 0, cube.nbytes)])
    for name in ("virtual", "external"):
        with pytest.raises(DataError, match=rf"{name}\.h5: 'cube' keeps its values in other files"):
            READER.open(tmp_path / f"{name}.h5")


def test_a_shape_that_the_file_cannot_hold_is_refused_before_anything_is_allocated(cube, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:  # never written, so nothing is in the file
        file.create_dataset("cube", (50_000, 70_000, 300), "u2", chunks=(500, 700, 3), compression="gzip")
    with pytest.raises(DataError, match=r"a\.h5: 'cube' promises 2100000000000 bytes, the file holds 0 compressed"):
        READER.open(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", (120, 100, 100), "u1", chunks=(1, 1, 1))[0, 0, 0] = 1
    with pytest.raises(DataError, match=r"a\.h5: 'cube' lies in 1200000 pieces"):
        READER.open(path)


def test_a_chunk_that_unpacks_to_more_than_it_promised_is_refused(cube, tmp_path):
    import zlib

    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("cube", cube.shape, cube.dtype, chunks=cube.shape, compression="gzip")
        data.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(50_000_000)))
    with pytest.raises(DataError, match=r"a\.h5: 'cube', chunk at \[0, 0, 0\]: .* came out of a piece of 2210"):
        np.asarray(READER.open(path).array)


def test_arrays_of_other_types_are_passed_over(cube, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["complex"] = cube.astype(complex)
        file["text"] = np.array([[[b"a"]]])
    with pytest.raises(DataError, match="no 3-D array of real numbers"):
        READER.open(tmp_path / "a.h5")
