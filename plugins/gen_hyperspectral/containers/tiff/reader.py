"""TIFF cubes: a stack of pages, a page of many samples (side by side or apart), or a folder of single-band TIFFs.

BigTIFF, ImageJ and OME files too. In a folder the bands stand in natural order of the file names, band2 before band10.
Wavelengths are looked for in the description of the first page (JSON, OME-XML, `wavelength = {...}`), in GDAL's
metadata, in the descriptions of single pages (`550 nm`), in the file names of a folder (`eye_550nm.tif`), then in a
sidecar.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gen_core.errors import DataError
from gen_core.writer import RawVolume, Reader
from gen_hyperspectral.containers.tiff.descriptions import heed_descriptions, nm_of
from gen_hyperspectral.containers.tiff.planes import MOST_PAGES, Plane, TiffPieces, opened, planes_of
from gen_hyperspectral.cubes.chunked import ChunkedCube
from gen_hyperspectral.cubes.facts import Facts, assemble
from gen_hyperspectral.cubes.layout import choose_variable
from gen_hyperspectral.cubes.limits import check_array, check_promise
from gen_hyperspectral.cubes.names import natural
from gen_hyperspectral.cubes.wavelengths import find_sidecar
from gen_hyperspectral.reader_options import TiffReader as Options

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
BESIDE = (".json", ".csv", ".txt", ".xml", ".md", ".png", ".jpg", ".hdr", ".db", ".ini")  # what a folder may also hold
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BANDS = "ZCTQISB"  # letters of tifffile for axes that can be bands
RGB, PALETTE = 2, 3  # photometric interpretations of pictures


def build(options: Options, context: Any = None) -> Reader:
    """The reader of TIFF files and folders."""
    return TiffCubes()


class TiffCubes(Reader):
    """Opens TIFF stacks and folders of TIFFs; `version` enters cache keys."""

    version = 1

    def recognizes(self, path: Path) -> bool:
        """A file with more than one band, or a folder that holds single-band images and no other data."""
        try:
            if path.is_dir():
                files = folder_files(path)
                return len(files) > 1 and all(_bands(f) == 1 for f in files[:2])
            return path.is_file() and _is_tiff(path) and _bands(path) != 1
        except (OSError, DataError):
            return False

    def files(self, path: Path) -> list[Path]:
        """The file or the bands of the folder, and a sidecar, if any."""
        sidecar = _sidecar(path)
        return (folder_files(path) if path.is_dir() else [path]) + ([] if sidecar is None else [sidecar])

    def open(self, path: Path, variable: str | None = None, guess: bool = False, **_: Any) -> RawVolume:
        """The cube with axes (y, x, band). variable: number of the image series, from 0. Raises: DataError."""
        try:
            return _open_folder(path) if path.is_dir() else _open_file(path, variable, guess)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _sidecar(path: Path) -> Path | None:
    return (find_sidecar(path / "wavelengths") if path.is_dir() else None) or find_sidecar(path)


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix.lower() in SUFFIXES or file.read(4) in MAGIC


def _bands(path: Path) -> int:
    """1 for a single grey image or a picture, 0 for a file that cannot be read, else 2: more than one band."""
    try:
        with opened(path) as tif:
            page = tif.pages.first
            if int(page.samplesperpixel) > 1:
                return 1 if int(page.photometric) in (RGB, PALETTE) and page.dtype == np.uint8 else 2
            if page.is_imagej or page.is_ome or page.is_shaped:
                return 2 if sum(n > 1 for n in tif.series[0].shape) > 2 else 1
            return 2 if len(tif.pages) > 1 else 1
    except DataError:
        return 0


def folder_files(folder: Path) -> list[Path]:
    """The TIFFs of a folder in natural order; none where it holds other data or folders too."""
    inside = [p for p in folder.iterdir() if not p.name.startswith(".")]
    tiffs = [p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file()]
    if len(tiffs) > MOST_PAGES or any(p.suffix.lower() not in BESIDE or p.is_dir() for p in set(inside) - set(tiffs)):
        return []
    if not all(p.name.isprintable() for p in tiffs):  # names come into messages
        return []
    return sorted(tiffs, key=lambda p: natural(p.name))


def _open_file(path: Path, variable: str | None, guess: bool) -> RawVolume:
    facts = Facts(where="tag", sidecar=_sidecar(path))
    with opened(path) as tif:
        if len(tif.pages) > MOST_PAGES:
            raise DataError(f"{path}: more than {MOST_PAGES} pages: no cube, or damaged")
        shapes, letters = {}, {}
        for number, series in enumerate(tif.series):
            long = [(n, a) for n, a in zip(series.shape, series.axes) if n > 1 or a in "YX"]
            kinds = "".join("y" if a == "Y" else "x" if a == "X" else "b" if a in BANDS else "?" for _, a in long)
            if sorted(kinds) == sorted("yxb"):
                shapes[str(number)], letters[str(number)] = tuple(n for n, _ in long), kinds
        if not shapes and tif.series:
            axes = ", ".join(f"{s.axes} {list(s.shape)}" for s in tif.series[:5])
            raise DataError(f"{path}: no stack of images (axes y, x and one of bands) in it; there are: {axes}")
        wanted = variable if variable and len(tif.series) > 1 else None
        name, facts.warnings = choose_variable(path, shapes, wanted, {}, guess)
        series = tif.series[int(name)]
        others = sum(len(s.pages) for n, s in enumerate(tif.series) if str(n) not in shapes)
        if others:
            facts.warnings.append(f"{others} images of another size or type are left out")
        key = series.keyframe
        facts.axes = letters[name]
        dtype = np.dtype(tif.byteorder + series.dtype.char)
        need = check_array(path, "the stack", tuple(series.shape), dtype)
        heed_descriptions(facts, [_description(p) for p in series.pages], key)
        if series.dataoffset is not None and need > 0:
            check_promise(path, "the stack", series.dataoffset + need, path.stat().st_size, packed=False)
            array: Any = np.memmap(path, dtype, "r", series.dataoffset, shapes[name])
            return assemble(path, array, facts)
        planes: list[Plane] = []
        for number, page in enumerate(series.pages):
            if page is None:
                raise DataError(f"{path}: page {number} of the stack is missing")
            planes += planes_of(path, page, dtype, key)
        pieces = TiffPieces(path, planes)
        if len(planes) > 1 and not pieces.many:
            raise DataError(f"{path}: {len(planes)} pages of {planes[0].shape[2]} samples: expected one axis of bands")
        facts.axes = "byx" if pieces.many else "yxb"
    return assemble(path, ChunkedCube(pieces), facts)


def _open_folder(folder: Path) -> RawVolume:
    files = folder_files(folder)
    if not files:
        raise DataError(f"{folder}: no folder of single-band TIFFs (or there is other data in it)")
    facts = Facts(where="tag", axes="byx", sidecar=_sidecar(folder))
    planes: list[Plane] = []
    told: list[str] = []
    for path in files:
        with opened(path) as tif:
            page = tif.pages.first
            if len(tif.pages) > 1 or int(page.samplesperpixel) > 1:
                raise DataError(f"{path}: more than one band in a file of a folder of bands")
            planes += planes_of(path, page, np.dtype(tif.byteorder + page.dtype.char), page)
            told.append(_description(page))
    heed_descriptions(facts, told, None)
    nm = nm_of([p.stem for p in files])
    if nm is not None and not facts.vectors:
        facts.vectors, facts.where = {"wavelength_nm": nm}, "file names"
    facts.meta = {"files": len(files), "first": files[0].name, "last": files[-1].name}
    return assemble(folder, ChunkedCube(TiffPieces(folder, planes)), facts)


def _description(page: Any) -> str:
    """The description of a page; pages that share those of the first have none."""
    if page is None or not hasattr(page, "description"):
        return ""
    return str(page.description or "")
