"""Photographs as three planes: their field, their turn, and the colour models that are read or refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gen_core.errors import DataError
from gen_hyperspectral.photographs import planes as photographs
from gen_hyperspectral.photographs.planes import field_of_view, photograph_size, read_photograph

Y, X = 18, 22


def picture(seed, h=Y, w=X):
    """(h, w, 3) uint8 RGB: a bright round field on black."""
    y, x = np.mgrid[:h, :w]
    field = np.hypot((y + 0.5 - h / 2) / h, (x + 0.5 - w / 2) / w) < 0.45
    image = np.random.default_rng(seed).integers(60, 250, (h, w, 3), np.uint8)
    return image * field[..., None].astype(np.uint8)


def test_the_field_is_the_largest_part_with_its_holes_filled():
    planes = np.zeros((3, 12, 14), np.float32)
    planes[2, 2:9, 3:12] = 0.7
    planes[:, 5, 6] = 0.01  # a dark vessel
    planes[1, 11, :2] = 0.9  # letters at the border
    want = np.zeros((12, 14), bool)
    want[2:9, 3:12] = True
    assert np.array_equal(field_of_view(planes, 0.06), want)
    assert not field_of_view(planes * 0, 0.06).any()


def test_exif_orientation_is_heeded(tmp_path):
    image = Image.fromarray(picture(1, 10, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    planes, opaque, _ = read_photograph(tmp_path / "turned.png")
    assert planes.shape == (3, 16, 10) and photograph_size(tmp_path / "turned.png") == (16, 10)
    want = np.rot90(picture(1, 10, 16), -1).transpose(2, 0, 1)[::-1] / 255
    assert np.allclose(planes, want, atol=1e-6) and opaque.all()
    exif[0x0112] = 162  # there is none such
    image.save(tmp_path / "damaged.png", exif=exif)
    assert read_photograph(tmp_path / "damaged.png")[0].shape == (3, 10, 16)
    assert photograph_size(tmp_path / "damaged.png") == (10, 16)


def test_large_photographs_of_little_data_are_refused(tmp_path, monkeypatch):
    Image.new("RGB", (4000, 3000)).save(tmp_path / "blank.png")
    with pytest.raises(DataError, match=r"blank\.png: 4000 x 3000 pixels in \d+ bytes: blank or hostile"):
        read_photograph(tmp_path / "blank.png")
    assert photograph_size(tmp_path / "blank.png") == (3000, 4000)
    monkeypatch.setattr(photographs, "MOST_PIXELS", 159)
    Image.fromarray(picture(1, 10, 16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: 16 x 10 pixels: no photograph of an eye has so many"):
        read_photograph(tmp_path / "a.png")


def test_transparent_pixels_are_outside_and_palettes_are_colours(tmp_path):
    rgba = np.dstack([picture(2), np.full((Y, X), 255, np.uint8)])
    rgba[:4, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    planes, opaque, _ = read_photograph(tmp_path / "alpha.png")
    assert not opaque[:4].any() and opaque[4:].all() and planes.shape == (3, Y, X)
    Image.fromarray(picture(2) // 128 * 128).quantize(16).save(tmp_path / "palette.png")
    planes, _, _ = read_photograph(tmp_path / "palette.png")
    assert np.allclose(planes[::-1].transpose(1, 2, 0) * 255, picture(2) // 128 * 128, atol=1)


def test_grey_is_refused_or_repeated_and_keeps_sixteen_bits(tmp_path):
    deep = np.linspace(0, 65535, Y * X).astype(np.uint16).reshape(Y, X)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    Image.fromarray((deep >> 8).astype(np.uint8)).save(tmp_path / "grey.jpg", quality=100)
    for name in ("deep.png", "deep.tif", "grey.jpg"):
        with pytest.raises(DataError, match=r'an image without colour; dataset.grey = "repeat"'):
            read_photograph(tmp_path / name)
        planes, _, _ = read_photograph(tmp_path / name, "repeat")
        assert np.array_equal(planes[0], planes[2])
        assert np.allclose(planes[1], deep / 65535.0, atol=0.01 if name == "grey.jpg" else 1e-6)


def test_sixteen_bit_colour_is_read_as_eight_and_said(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (Y, X, 3))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", X, Y, 16, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)))
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b""))
    planes, _, notes = read_photograph(tmp_path / "deep.png")
    assert notes == ["16 bits a colour, of which 8 are used"]
    assert np.abs(planes[::-1].transpose(1, 2, 0) - deep / 65535).max() < 1 / 255


def test_other_colour_models_and_damaged_files_are_one_line(tmp_path):
    Image.fromarray(picture(3)).convert("CMYK").save(tmp_path / "print.tif")
    with pytest.raises(DataError, match="colour model CMYK; convert it to RGB"):
        read_photograph(tmp_path / "print.tif")
    Image.fromarray(picture(3)).save(tmp_path / "two.tif", save_all=True, append_images=[Image.fromarray(picture(4))])
    with pytest.raises(DataError, match="2 pages in one file"):
        read_photograph(tmp_path / "two.tif")
    Image.fromarray(picture(3)).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:200])
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.jpg", "text.png"):
        with pytest.raises(DataError, match="photograph cannot be read") as caught:
            read_photograph(tmp_path / name)
        assert "\n" not in str(caught.value)
