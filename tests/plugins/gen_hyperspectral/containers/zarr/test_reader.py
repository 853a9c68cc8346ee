"""zarr folders: both formats, several arrays, wavelengths beside the cube, missing chunks, metadata that lie."""

import json

import numcodecs
import numpy as np
import pytest
import zarr

from gen_core.errors import DataError
from gen_hyperspectral.containers.zarr.reader import build
from gen_hyperspectral.reader_options import ZarrReader

READER = build(ZarrReader())
NM = [450.0, 500, 550, 600, 900]


@pytest.fixture
def cube():
    return np.random.default_rng(0).integers(1, 60000, (13, 17, 5)).astype(np.uint16)


def write(path, fmt, cube, **how):
    array = zarr.create_array(path, shape=cube.shape, chunks=(6, 7, 2), dtype=cube.dtype, zarr_format=fmt, **how)
    array[:] = cube
    return path


@pytest.mark.parametrize("fmt", [2, 3])
def test_an_array_of_its_own_is_a_cube(fmt, cube, tmp_path):
    path = write(tmp_path / "a.zarr", fmt, cube, attributes={"wavelength_nm": NM})
    assert READER.recognizes(path) and not READER.recognizes(tmp_path)
    raw = READER.open(path)
    assert np.array_equal(np.asarray(raw.array), cube) and raw.wavelength_nm.tolist() == NM
    assert all(p.is_file() for p in READER.files(path)) and len(READER.files(path)) > 27


@pytest.mark.parametrize("compressor", [None, numcodecs.Zlib(1), numcodecs.LZ4(), numcodecs.Zstd(1)])
def test_the_codecs_of_format_2_are_read(compressor, cube, tmp_path):
    path = write(tmp_path / "a.zarr", 2, cube.astype(">u2"), compressors=compressor)
    assert np.array_equal(np.asarray(READER.open(path).array), cube)


@pytest.mark.parametrize("fmt", [2, 3])
def test_several_arrays_are_listed_and_their_wavelengths_lie_beside_them(fmt, cube, tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=fmt)
    names = {"dimension_names": ["row", "column", "band"]} if fmt == 3 else {}
    for name, values in (("left/eye", cube), ("right/eye", cube[:, :, :3])):
        array = group.create_array(name, shape=values.shape, chunks=(6, 7, 2), dtype="u2", **names)
        array[:] = values
    group.create_array("left/wavelength", shape=(5,), chunks=(2,), dtype="f8", attributes={"units": "nm"})[:] = NM
    with pytest.raises(DataError, match=r"left/eye 13x17x5, right/eye 13x17x3\); choose one with dataset\.variable"):
        READER.open(tmp_path / "a.zarr")
    raw = READER.open(tmp_path / "a.zarr", variable="left/eye")
    assert np.array_equal(np.asarray(raw.array), cube)
    assert raw.wavelength_nm.tolist() == NM and raw.warnings == []
    assert READER.open(tmp_path / "a.zarr", guess=True).meta["variable"] == "left/eye"


def test_chunks_that_were_never_written_hold_the_fill_value(cube, tmp_path):
    cube[:6, :7] = 9
    path = write(tmp_path / "a.zarr", 2, cube, fill_value=9)
    assert not (path / "0.0.0").exists()
    assert np.array_equal(np.asarray(READER.open(path).array), cube)


def change(path, **keys):
    file = next(p for p in (path / ".zarray", path / "zarr.json") if p.exists())
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


@pytest.mark.parametrize(
    "keys, expected",
    [
        ({"shape": [10**6, 10**6, 10]}, r"key 'shape' (promises \d+ bytes|of shape .* damaged|lies in \d+ pieces)"),
        ({"shape": "many"}, "key 'shape' is 'many', expected a list of whole numbers"),
        ({"chunks": [0, 7, 2]}, "has pieces of"),
        ({"chunks": [1 << 40, 7, 2]}, "bytes for a chunk of|promises|unpacks to"),
        ({"filters": [{"id": "delta"}]}, "key 'filters'"),
        ({"compressor": {"id": "jpeg"}}, "compression 'jpeg' is not read"),
        ({"dtype": "|O"}, "no 3-D array"),
        ({"dtype": "<u8"}, "of a piece|chunk of|promises another size"),
    ],
)
def test_metadata_that_lie_are_refused_naming_file_and_key(keys, expected, cube, tmp_path):
    path = write(tmp_path / "a.zarr", 2, cube)
    change(path, **keys)
    with pytest.raises(DataError, match=expected) as error:
        np.asarray(READER.open(path).array)
    assert "a.zarr" in str(error.value) and "\n" not in str(error.value)


def test_damaged_metadata_and_chunks_are_refused_in_one_line(cube, tmp_path):
    path = write(tmp_path / "a.zarr", 3, cube)
    chunk = next(p for p in sorted((path / "c").rglob("*")) if p.is_file())
    data = chunk.read_bytes()
    chunk.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"a\.zarr/c/0/0/0: "):
        np.asarray(READER.open(path).array)
    (path / "zarr.json").write_text("{")
    with pytest.raises(DataError, match=r"zarr\.json: damaged zarr metadata"):
        READER.open(path)


def test_shards_are_refused_with_a_way_out(cube, tmp_path):
    path = write(tmp_path / "a.zarr", 3, cube, shards=(12, 14, 4))
    with pytest.raises(DataError, match="shards are not read; write the array again without them"):
        READER.open(path)
