"""TIFF stacks and folders: layouts, natural order, where wavelengths are found, and files that lie."""

import json
import struct
import zlib

import numpy as np
import pytest
import tifffile

from gen_core.errors import DataError
from gen_core.testing import check_reader
from gen_hyperspectral.containers.tiff.reader import build
from gen_hyperspectral.reader_options import TiffReader

READER = build(TiffReader())
NM = [450.0, 500.5, 550.0, 600.0, 900.0]


@pytest.fixture
def cube():
    return np.random.default_rng(0).integers(0, 60000, (70, 37, 5)).astype(np.uint16)


LAYOUTS = {
    "plain": {},
    "big-endian BigTIFF": {"bigtiff": True, "byteorder": ">"},
    "deflate with predictor, big-endian": {"compression": "zlib", "predictor": 2, "rowsperstrip": 9, "byteorder": ">"},
    "one strip": {"compression": "zlib", "rowsperstrip": 70},
    "tiles": {"tile": (16, 32)},
    "packed tiles wider than the image": {"tile": (32, 48), "compression": "zlib", "predictor": 2},
    "planes apart": {"planarconfig": "separate", "rowsperstrip": 9, "compression": "zlib"},
    "samples side by side": {"planarconfig": "contig", "rowsperstrip": 9, "compression": "zlib", "predictor": 2},
    "ImageJ": {"imagej": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read(layout, cube, tmp_path):
    how = LAYOUTS[layout]
    values = cube if how.get("planarconfig") == "contig" else cube.transpose(2, 0, 1)
    meta = {"axes": "ZYX"} if layout == "ImageJ" else None
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", metadata=meta, **how)
    check_reader(READER, tmp_path / "a.tif", cube)


def test_pages_written_one_by_one_are_a_stack(cube, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        for band in range(5):
            out.write(cube[:, :, band], metadata=None, contiguous=False, description=f"band at {NM[band]} nm")
    raw = READER.open(tmp_path / "a.tif")
    assert np.array_equal(np.asarray(raw.array), cube) and raw.wavelength_nm.tolist() == NM


@pytest.mark.parametrize(
    "how",
    [
        {"description": json.dumps({"wavelength_nm": NM}), "metadata": None},
        {"metadata": None, "description": "camera=X\nwavelength = {450, 500.5, 550,600, 900}\nwavelength units = nm"},
        {"metadata": {"wavelengths": [n / 1000 for n in NM], "wavelength_units": "um"}},
        {"metadata": {"axes": "CYX", "Channel": {"EmissionWavelength": NM}}, "ome": True},
        {
            "metadata": None,
            "extratags": [
                (42112, "s", 0, "<GDALMetadata>" + "".join(
                    f'<Item name="wavelength" sample="{i}">{n}</Item>' for i, n in enumerate(NM)
                ) + '<Item name="wavelength_units">nm</Item></GDALMetadata>', True)
            ],
        },
    ],
    ids=["JSON", "text", "tifffile's own", "OME", "GDAL"],
)  # fmt: skip
def test_wavelengths_are_found_in_descriptions(how, cube, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", cube.transpose(2, 0, 1), photometric="minisblack", **how)
    raw = READER.open(tmp_path / "a.tif")
    assert raw.wavelength_nm is not None and raw.wavelength_nm.tolist() == pytest.approx(NM)


def folder_of(path, cube, names):
    path.mkdir()
    for name, plane in zip(names, cube.transpose(2, 0, 1)):
        tifffile.imwrite(path / name, plane, metadata=None)
    return path


def test_a_folder_of_bands_is_read_in_natural_order(cube, tmp_path):
    folder = folder_of(tmp_path / "eye", cube, [f"band{n}.tif" for n in (1, 2, 9, 10, 11)])
    assert READER.recognizes(folder) and not READER.recognizes(tmp_path)
    assert [p.name for p in READER.files(folder)] == ["band1.tif", "band2.tif", "band9.tif", "band10.tif", "band11.tif"]
    assert np.array_equal(np.asarray(READER.open(folder).array), cube)
    (folder / "wavelengths.txt").write_text("\n".join(map(str, NM)))
    assert READER.open(folder).wavelength_nm.tolist() == NM and len(READER.files(folder)) == 6


def test_file_names_tell_wavelengths(cube, tmp_path):
    folder = folder_of(tmp_path / "eye", cube, [f"p3_{n}nm.tiff" for n in NM])
    assert READER.open(folder).wavelength_nm.tolist() == NM


def test_folders_of_other_things_are_no_cube(cube, tmp_path):
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    for i in range(2):
        tifffile.imwrite(stacks / f"{i}.tif", cube.transpose(2, 0, 1), photometric="minisblack")
    assert not READER.recognizes(stacks)
    mixed = folder_of(tmp_path / "mixed", cube, [f"{i}.tif" for i in range(5)])
    np.save(mixed / "cube.npy", cube)
    assert not READER.recognizes(mixed)
    tifffile.imwrite(tmp_path / "grey.tif", cube[:, :, 0])
    tifffile.imwrite(tmp_path / "photo.tif", cube[:, :, :3].astype(np.uint8), photometric="rgb")
    assert not READER.recognizes(tmp_path / "grey.tif") and not READER.recognizes(tmp_path / "photo.tif")


def test_bands_of_different_size_are_named(cube, tmp_path):
    folder = folder_of(tmp_path / "eye", cube, [f"{i}.tif" for i in range(5)])
    tifffile.imwrite(folder / "3.tif", cube[:60, :, 0], metadata=None)
    with pytest.raises(DataError, match=r"3\.tif: an image of \[60, 37\] uint16 among images of \[70, 37\]"):
        READER.open(folder)


def test_a_stack_that_is_cut_off_is_not_a_shorter_stack(cube, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        for band in range(5):
            out.write(cube[:, :, band], metadata=None, contiguous=False)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) * 3 // 5])
    with pytest.raises(DataError, match=r"a\.tif: .*cut off"):
        READER.open(tmp_path / "a.tif")


def test_sizes_that_lie_and_strips_that_burst_are_refused(cube, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, cube.transpose(2, 0, 1), photometric="minisblack", metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        at = [page.tags["ImageLength"].valueoffset for page in tif.pages]
    for place in at:
        data[place : place + 4] = struct.pack("<I", 2_000_000_000)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tif"):
        np.asarray(READER.open(path).array)


def test_a_strip_that_unpacks_to_more_than_its_image_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    how = {"compression": "zlib", "rowsperstrip": 70, "photometric": "minisblack", "metadata": None}
    noise = np.random.default_rng(0).integers(0, 60000, (2, 70, 370)).astype(np.uint16)
    tifffile.imwrite(path, noise, **how)
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    bomb = zlib.compress(bytes(30_000_000))
    assert len(bomb) < count
    data = path.read_bytes()
    path.write_bytes(data[:offset] + bomb + data[offset + len(bomb) :])
    with pytest.raises(DataError, match=r"a\.tif: an image cannot be read: .* came out of a piece of 51800"):
        np.asarray(READER.open(path).array)


def test_compressions_that_need_another_package_are_told(cube, tmp_path):
    from PIL import Image

    pages = [Image.fromarray(plane) for plane in cube.transpose(2, 0, 1)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    raw = READER.open(tmp_path / "a.tif")
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match=r"a\.tif: an image cannot be read: .*imagecodecs"):
            np.asarray(raw.array)
    else:
        assert np.array_equal(np.asarray(raw.array), cube)
