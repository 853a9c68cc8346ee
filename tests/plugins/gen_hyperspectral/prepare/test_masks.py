"""Masks beside cubes: arrays and images of every kind say the same, and damage is one line."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from gen_core.errors import DataError
from gen_hyperspectral.prepare.masks import read_mask

SIZE = (5, 7)
TRUTH = np.random.default_rng(0).random(SIZE) < 0.4
LOW = np.where(TRUTH, 0.6, 0.4)  # of the largest value


def grey(white, dtype):
    return Image.fromarray((LOW * white).astype(dtype))


def colour(mode):
    inside, outside = {"RGB": ((9, 200, 9), (90, 90, 90)), "RGBA": ((9, 200, 9, 0), (90, 90, 90, 255))}[mode]
    return Image.fromarray(np.where(TRUTH[..., None], inside, outside).astype("u1"), mode)


IMAGES = {
    "1.png": lambda: Image.fromarray(TRUTH),
    "1.gif": lambda: Image.fromarray(TRUTH),
    "L.png": lambda: grey(255, "u1"),
    "L.tif": lambda: grey(255, "u1"),
    "16.png": lambda: grey(65535, "u2"),
    "16.tif": lambda: grey(65535, "u2"),
    "F.tif": lambda: grey(1, "f4"),
    "LA.png": lambda: grey(255, "u1").convert("LA"),
    "P.png": lambda: colour("RGB").convert("P", palette=Image.Palette.ADAPTIVE),
    "RGB.png": lambda: colour("RGB"),
    "RGB.bmp": lambda: colour("RGB"),
    "RGBA.png": lambda: colour("RGBA"),
}


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_inside_above_half_of_its_largest_value(name, tmp_path):
    IMAGES[name]().save(tmp_path / name)
    assert np.array_equal(read_mask(tmp_path / name, SIZE), TRUTH)


@pytest.mark.parametrize(
    "array", [TRUTH, TRUTH.astype("f4") * 0.1, TRUTH[None].astype(">i2"), np.asfortranarray(TRUTH)]
)
def test_an_array_is_inside_where_it_is_not_zero(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read_mask(tmp_path / "a.npy", SIZE), TRUTH)


def bytes_of(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a.npy", bytes_of(TRUTH))
    return out.getvalue()


BAD = {
    "empty.npy": b"",
    "cut.npy": bytes_of(TRUTH)[:-1],
    "archive.npy": zipped(),  # np.load would take it
    "words.npy": bytes_of(TRUTH.astype(str)),
    "objects.npy": bytes_of(TRUTH.astype(object)),
    "lies.npy": bytes_of(TRUTH).replace(b"(5, 7), }          ", b"(500000, 700000), }"),
    "deep.npy": bytes_of(np.stack([TRUTH, TRUTH])),
    "empty.png": b"",
    "text.png": b"no image",
    "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 5\n%%EndComments\nshowpage\n",  # Pillow runs `gs`
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_mask_is_one_line_that_names_the_file(name, tmp_path):
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(DataError) as told:
        read_mask(tmp_path / name, SIZE)
    assert name in str(told.value) and "\n" not in str(told.value)


def test_the_size_is_held_against_the_cube_before_anything_is_unpacked(tmp_path, monkeypatch):
    Image.fromarray(TRUTH).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("unpacked"))
    with pytest.raises(DataError, match=r"a\.png: mask is \[5, 7\], its cube \[7, 5\] \(dataset\.masks\)"):
        read_mask(tmp_path / "a.png", SIZE[::-1])


def test_a_large_mask_may_be_empty(tmp_path):
    Image.new("1", (6000, 5000)).save(tmp_path / "blank.png")
    assert (tmp_path / "blank.png").stat().st_size < 10_000
    assert not read_mask(tmp_path / "blank.png", (5000, 6000)).any()
