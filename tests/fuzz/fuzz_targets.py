"""What is fuzzed: each target feeds bytes to one reader, as a file, and lets through what the reader raises.

A reader may refuse with an error of gen_core.errors, whose message is one line, and nothing else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import random
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import fuzz_hdf5
import fuzz_images
import fuzz_seeds as seeds
import fuzz_tables
import numpy as np
from attrs import frozen

from gen_core.errors import GenError, RecipeError

LINE = 4000  # characters of a message: more is a file that is printed, not a message


@frozen
class Target:
    """use(folder, data) reads; seeds() are whole files; packages: what coverage is measured in."""

    use: Callable[[Path, bytes], object]
    seeds: Callable[[], list[bytes]]
    packages: tuple[str, ...]
    tokens: tuple[bytes, ...] = ()
    needs: tuple[str, ...] = ()  # modules without which the target does not exist
    mutate: Callable[[random.Random, bytes], bytes] | None = None  # in the terms of the format, beside plain mutation

    @property
    def there(self) -> bool:
        return all(importlib.util.find_spec(name) for name in self.needs)


class Finding(Exception):
    """An error that is none of ours, or a message that is no line."""


def check(target: Target, folder: Path, data: bytes) -> str:
    """Read `data`; "" when it was read, else the message. Raises: what is a finding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target.use(folder, data)
        except RecipeError as error:
            for problem in error.problems:
                _one_line(problem)
            return str(error)
        except GenError as error:
            _one_line(str(error))
            return str(error)
    return ""


def _one_line(message: str) -> None:
    if not message or "\n" in message or "\r" in message or len(message) > LINE:
        raise Finding(f"not one line: {message[:200]!r}")


def _describe(raw: object) -> None:
    """What `gen data inspect --json` does with a volume."""
    from gen_core.inspect import describe

    json.dumps(describe(raw), allow_nan=False)  # type: ignore[arg-type]


def _reader(module: str, options: str, name: str) -> Callable[[Path, bytes], object]:
    def use(folder: Path, data: bytes) -> None:
        path = seeds.write(folder, name, data)
        _open(module, options, path)

    return use


def _open(module: str, options: str, path: Path) -> None:
    package = importlib.import_module(f"gen_hyperspectral.containers.{module}")
    reader = package.build(getattr(importlib.import_module("gen_hyperspectral.reader_options"), options)())
    if reader.recognizes(path):
        _describe(reader.open(path, guess=True))


def _sidecar(folder: Path, data: bytes) -> None:
    seeds.write(folder, "cube.json" if data[:1] in b"[{" else "cube.csv", data)
    try:
        _reader("npy", "NpyReader", "cube.npy")(folder, seeds.npy())
    finally:
        for name in ("cube.json", "cube.csv"):
            (folder / name).unlink(missing_ok=True)


def _envi(folder: Path, data: bytes) -> None:
    seeds.write(folder, "cube.dat", seeds.CUBE.tobytes())
    _reader("envi", "EnviReader", "cube.hdr")(folder, data)


def _image():
    from gen_radiology.volumes.image import Image

    uids = tuple(f"1.2.{k}" for k in range(seeds.SHAPE[0]))
    meta = {"frame_of_reference_uid": seeds.FRAME}
    return Image(np.zeros(seeds.SHAPE, np.float32), seeds.AXIAL, "scan", "subject", slice_uids=uids, meta=meta)


def _nifti(name: str) -> Callable[[Path, bytes], object]:
    def use(folder: Path, data: bytes) -> None:
        from gen_radiology.conversion.inspect import inspect
        from gen_radiology.nifti.label_masks import read_label_masks
        from gen_radiology.nifti.reader import NiftiFiles

        path = seeds.write(folder, name, data)
        _describe(NiftiFiles().open(path))
        json.dumps(inspect(path), allow_nan=False)
        read_label_masks(path, _image(), resample=True)

    return use


def _dicom(folder: Path, data: bytes) -> None:
    from gen_radiology.conversion.inspect import inspect

    json.dumps(inspect(seeds.write(folder, "a.dcm", data), geometry="warn"), allow_nan=False)


def _rtstruct(folder: Path, data: bytes) -> None:
    from gen_radiology.dicom.rtstruct import read_rtstruct, structure_masks

    structure_masks(read_rtstruct(seeds.write(folder, "rs.dcm", data)), _image())


def _segmentation(folder: Path, data: bytes) -> None:
    from gen_radiology.dicom.seg import segmentation_masks

    segmentation_masks(seeds.write(folder, "seg.dcm", data), _image(), resample=True)


def _lidc(folder: Path, data: bytes) -> None:
    from gen_radiology.lidc.nodule_masks import nodule_masks
    from gen_radiology.lidc.nodules import find_nodules
    from gen_radiology.lidc.readings import read_readings

    found = read_readings(seeds.write(folder, "a.xml", data))
    if found.kind == "CT":
        image = _image()
        nodule_masks(find_nodules(found, image.spacing), image, by="nodule")


_registry: list[object] = []


def _recipe(folder: Path, data: bytes) -> None:
    """Read, write, read again: the same settings."""
    from gen_core.recipe import load_recipe
    from gen_core.registry import Registry

    if not _registry:
        _registry.append(Registry.load())
    recipe = load_recipe(seeds.write(folder, "a.toml", data), registry=_registry[0])
    again = seeds.write(folder, "b.lock.toml", recipe.to_toml().encode())
    if load_recipe(again, registry=_registry[0]).to_dict() != recipe.to_dict():
        raise Finding("the locked recipe differs from the recipe")


def _override(folder: Path, data: bytes) -> None:
    """Text of --set on a valid recipe."""
    from gen_core.recipe import load_recipe
    from gen_core.registry import Registry

    if not _registry:
        _registry.append(Registry.load())
    lines = data.decode("utf-8", "replace").splitlines()
    load_recipe(seeds.write(folder, "a.toml", seeds.RECIPE.encode()), lines, registry=_registry[0])


def _tensors(folder: Path, data: bytes) -> None:
    """A checkpoint whose hashes are right, so that the tensors are what is read."""
    from gen_core.engine.checkpoint import open_checkpoint

    seeds.write(folder, "model.safetensors", data)
    state = {"format": 1, "files": {"model.safetensors": hashlib.sha256(data).hexdigest()}}
    seeds.write(folder, "state.json", json.dumps({**state, "sha256": _digest(state)}).encode())
    open_checkpoint(folder).tensors("model")


def _state(folder: Path, data: bytes) -> None:
    """A state.json, signed anew wherever it is an object."""
    from gen_core.engine.checkpoint import newest_checkpoint, open_checkpoint

    step = folder / "step-00000003"
    step.mkdir(exist_ok=True)
    try:
        state = json.loads(data)
        data = json.dumps({**state, "sha256": _digest(state)}).encode() if isinstance(state, dict) else data
    except (ValueError, RecursionError):
        pass
    seeds.write(step, "state.json", data)
    newest_checkpoint(folder)
    open_checkpoint(step).tensors("model")


def _digest(state: dict) -> str:
    rest = {k: v for k, v in state.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _record(folder: Path, data: bytes) -> None:
    """A weights.json, its hash made right wherever it is an object, with sound tensors."""
    from gen_core.engine.checkpoint import read_weights

    tensors = seeds.write(folder, "weights.safetensors", seeds.safetensors())
    try:
        record = json.loads(data)
        if isinstance(record, dict):
            data = json.dumps({**record, "sha256": hashlib.sha256(tensors.read_bytes()).hexdigest()}).encode()
    except (ValueError, RecursionError):
        pass
    seeds.write(folder, "weights.json", data)
    read_weights(folder)


def _foreign(folder: Path, data: bytes) -> None:
    from gen_core.foreign_weights import read_state

    read_state(seeds.write(folder, "w.pth", data), "", "features.weights")
    read_state(seeds.write(folder, "w.safetensors", data), "", "features.weights")


def _foreign_index(folder: Path, data: bytes) -> None:
    """A pickle stream in an archive that is sound: its checksum would stop every mutation."""
    from gen_core.foreign_weights import read_state

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", bytes(24))
        archive.writestr("a/data/1", bytes(8))
    read_state(seeds.write(folder, "w.pth", out.getvalue()), "", "features.weights")


def _index_seeds() -> list[bytes]:
    archive = zipfile.ZipFile(io.BytesIO(seeds.torch_file()))
    return [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]


def _npz_member(folder: Path, data: bytes) -> None:
    """An .npy inside a sound archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", data)
        archive.writestr("wl.npy", seeds.npy(np.array(seeds.WAVELENGTHS)))
    _reader("npy", "NpyReader", "a.npz")(folder, out.getvalue())


def _nifti_cube(folder: Path, data: bytes) -> None:
    """Plain, then packed soundly: a checksum would stop every mutation."""
    read = lambda name, content: _reader("nifti", "NiftiCubeReader", name)(folder, content)
    try:
        read("a.nii", data)
    finally:
        read("a.nii.gz", seeds.gzipped(data))


PARTS = b"\n--chunk--\n"
VERSION_3 = b"zarr.json\n"
CHUNK_NAMES = ("0.0.0", "0.0.1", "0/0/0", "0/0/1", "c/0/0/0", "c/0/0/1", "c.0.0.0", "c.0.0.1")


def _zarr(folder: Path, data: bytes) -> None:
    """The name of the metadata, the metadata, then two chunks, under every name that chunks can have."""
    root = folder / "a.zarr"
    shutil.rmtree(root, ignore_errors=True)
    version = 3 if data.startswith(VERSION_3) else 2
    meta, *chunks = data.removeprefix(VERSION_3).split(PARTS)
    files = {"zarr.json" if version == 3 else ".zarray": meta}
    files |= {name: chunks[n % len(chunks)] for n, name in enumerate(CHUNK_NAMES)} if chunks else {}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    _open("zarr.reader", "ZarrReader", root)


def _zarr_seeds() -> list[bytes]:
    made = []
    for version, head in ((2, b""), (3, VERSION_3)):
        meta, *chunks = seeds.zarr(version).values()
        made.append(head + PARTS.join((meta, *chunks)))
    for codec in ("blosc", "zstd", "lz4"):
        import numcodecs

        pack = {"blosc": numcodecs.Blosc, "zstd": numcodecs.Zstd, "lz4": numcodecs.LZ4}[codec]().encode
        meta, *chunks = seeds.zarr(2, tuple(map(bytes, seeds.zarr_chunks(pack))), compressor={"id": codec}).values()
        made.append(PARTS.join((meta, *chunks)))
    return made


def _mutated_zarr(rng: random.Random, data: bytes) -> bytes:
    """Metadata changed as JSON, so that they stay JSON; or bytes of a chunk, packed soundly again."""
    meta, *chunks = data.split(PARTS)
    head = VERSION_3 if meta.startswith(VERSION_3) else b""
    if chunks and rng.random() < 0.3:
        at = rng.randrange(len(chunks))
        chunks[at] = fuzz_hdf5.repacked(rng, chunks[at])
        return PARTS.join((meta, *chunks))
    try:
        tree = json.loads(meta.removeprefix(head))
    except (ValueError, RecursionError):
        return data
    for _ in range(rng.randint(1, 3)):
        tree = _mutated_json(rng, tree)
    return head + PARTS.join((json.dumps(tree).encode("utf-8", "replace"), *chunks))


VALUES = (
    None, True, 0, 1, -1, 2, 3, 7, 255, 2**31, 2**32, 2**47, 2**63, 10**400, 0.5, 1e308, float("nan"), "", "a\nb",
    "/", "..", "NaN", "0x7ff8", "<f8", ">u2", "|b1", "|O", "|S9", "<c16", "float64", "uint8", "r16", "C", "F", "gzip",
    "zlib", "blosc", "zstd", "lz4", "bytes", "transpose", "crc32c", "sharding_indexed", [], [0], [1, 0, 2], [3, 7, 5],
    {}, {"name": "gzip"},
)  # fmt: skip


def _mutated_json(rng: random.Random, tree: object) -> object:
    """One place of it changed, left out or doubled."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(sorted(tree))
        kept = {k: v for k, v in tree.items() if k != key}
        return kept if rng.random() < 0.1 else {**tree, key: _mutated_json(rng, tree[key])}
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        at = rng.randrange(len(tree))
        return tree[:at] + [_mutated_json(rng, tree[at])] * rng.choice((0, 1, 1, 1, 1, 2)) + tree[at + 1 :]
    return rng.choice(VALUES)


def _tiff_folder(folder: Path, data: bytes) -> None:
    """A file name, then the TIFF of that name beside two sound ones."""
    root = folder / "bands"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    name, _, content = data.partition(b"\n")
    name = name.replace(b"/", b"").replace(b"\0", b"")[:80] or b"a"
    for sound, wave in (("eye_450nm.tif", 0), ("eye_550nm.tif", 1)):
        (root / sound).write_bytes(seeds.tiff_band(wave))
    Path(os.fsdecode(os.fsencode(root) + b"/" + name + b".tif")).write_bytes(content)
    _open("tiff.reader", "TiffReader", root)


def _tiff_folder_seeds() -> list[bytes]:
    packed = seeds.tiff_band(2, compression="zlib", predictor=2, rowsperstrip=2)
    return [
        b"eye_650nm\n" + seeds.tiff_band(2),
        b"eye_1050nm\n" + packed,
        b"eye_650nm\n" + seeds.tiff_band(2, tile=(16, 16)),
    ]


def _large(compress: str) -> bytes:
    return seeds.dicom(compress=compress, size=(33, 41))


CUBES = ("gen_hyperspectral", "gen_core.inspect", "numpy.lib._format_impl")
IMAGES = ("gen_hyperspectral", "PIL")
SCANS = ("gen_radiology",)
PYDICOM = (*SCANS, "pydicom")
J2K, JLS = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80"

TARGETS = {
    "npy": Target(_reader("npy", "NpyReader", "a.npy"), lambda: [seeds.npy(), seeds.npy(seeds.CUBE.T)], CUBES),
    "npz": Target(_reader("npy", "NpyReader", "a.npz"), lambda: [seeds.npz(), seeds.npz(True)], CUBES),
    "npz-member": Target(_npz_member, lambda: [seeds.npy(), seeds.npy(seeds.CUBE.astype("f4"))], CUBES),
    "sidecar": Target(
        _sidecar,
        lambda: [b'{"wavelength_nm": [500, 600, 700], "axes": "yxb", "nodata": 0, "bad_bands": [0, 1, 0]}',
                 b"[0.5, 0.6, 0.7]", b"band,wavelength (nm)\n1,500\n2,600\n3,700\n"],
        CUBES,
        (b'"wavelength_um"', b'"units"', b"NaN", b"1e999", b"null", b"true"),
    ),
    "envi": Target(
        _envi,
        lambda: [seeds.ENVI.encode(), seeds.ENVI.replace("bsq", "bip").encode()],
        CUBES,
        (b"reflectance scale factor = ", b"interleave = bil", b"file compression = 1", b"units = Micrometers",
         b"data type = 4", b"header offset = ", b"description = {", b"data ignore value = nan"),
    ),
    "mat": Target(_reader("mat.reader", "MatReader", "a.mat"), lambda: [seeds.mat(False), seeds.mat(True)], CUBES),
    "hdf5": Target(
        fuzz_hdf5.held(_reader("hdf5.reader", "Hdf5Reader", "a.h5")),
        fuzz_hdf5.seeds_of_hdf5, CUBES, (), ("h5py",), fuzz_hdf5.mutate,
    ),
    "mat-7.3": Target(
        fuzz_hdf5.held(_reader("mat.reader", "MatReader", "a.mat")),
        fuzz_hdf5.seeds_of_matlab, CUBES, (), ("h5py",), fuzz_hdf5.mutate,
    ),
    "zarr": Target(
        _zarr, _zarr_seeds, CUBES, (b'"order": "F"', b'"|O"', b"null", b"NaN", b"-1", b"1e999", PARTS),
        ("numcodecs",), _mutated_zarr,
    ),
    "nifti-cube": Target(
        _nifti_cube,
        lambda: [seeds.nifti(), seeds.nifti(big=True), seeds.nifti(two=True), seeds.nifti(scl_slope=2.5, scl_inter=-3)],
        CUBES,
    ),
    "nifti-cube-gz": Target(
        _reader("nifti", "NiftiCubeReader", "a.nii.gz"),
        lambda: [seeds.nifti(True), seeds.nifti(True, two=True)], CUBES,
    ),
    "tiff-folder": Target(
        _tiff_folder, _tiff_folder_seeds, (*CUBES, "tifffile"), (b"550nm", b"nm", b"\n"), ("tifffile",)
    ),
    "tiff": Target(
        _reader("tiff.reader", "TiffReader", "a.tif"),
        lambda: [seeds.tiff(), seeds.tiff(compression="zlib"), seeds.tiff(bigtiff=True, byteorder=">")],
        (*CUBES, "tifffile"), (), ("tifffile",),
    ),
    "mask": Target(fuzz_images.mask, fuzz_images.masks, IMAGES),
    "photograph": Target(fuzz_images.photograph, fuzz_images.photographs, IMAGES),
    "nifti": Target(
        _nifti("a.nii"),
        lambda: [seeds.nifti(), seeds.nifti(big=True), seeds.nifti(two=True), seeds.nifti(sform_code=0, qform_code=1),
                 seeds.nifti(scl_slope=2.5, scl_inter=-3)],
        (*SCANS, "nibabel"),
    ),
    "nifti-gz": Target(_nifti("a.nii.gz"), lambda: [seeds.nifti(True), seeds.nifti(True, two=True)], SCANS),
    "dicom": Target(
        _dicom,
        lambda: [seeds.dicom(), seeds.dicom(seeds.IMPLICIT), seeds.dicom(seeds.BIG), seeds.dicom(seeds.DEFLATED),
                 seeds.dicom_enhanced(), seeds.dicom(PixelPaddingValue=-900)],
        SCANS,
        (b"SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\0\xe0\xff\xff\xff\xff", b"\xfe\xff\x0d\xe0\0\0\0\0", b"1e308", b"nan"),
        ("pydicom",),
    ),
    "dicom-packed": Target(
        _dicom, lambda: [seeds.dicom(compress=seeds.RLE), _large(J2K), _large(JLS)], PYDICOM, (), ("pydicom",)
    ),
    "rtstruct": Target(
        _rtstruct, lambda: [seeds.rtstruct(), seeds.rtstruct(seeds.IMPLICIT)], PYDICOM,
        (b"1e308", b"nan", b"-37.5", b"\\", b"POINT", b"CLOSEDPLANAR_XOR"), ("pydicom",),
    ),
    "seg": Target(
        _segmentation,
        lambda: [seeds.segmentation(), seeds.segmentation("FRACTIONAL"), seeds.segmentation("LABELMAP"),
                 seeds.segmentation("FRACTIONAL", compress=seeds.RLE)],
        PYDICOM, (b"1e308", b"nan", b"LABELMAP"), ("pydicom",),
    ),
    "lidc": Target(
        _lidc, lambda: [seeds.lidc()], SCANS,
        (b"<!DOCTYPE a [", b"<!ENTITY a 'a'>", b"&a;", b"<xCoord>", b"</xCoord>", b"<roi>", b"<edgeMap>", b"</edgeMap>",
         b"<inclusion>FALSE</inclusion>", b"4095", b"-1", b"1e308", b"nan", b"<CXRreadingSession/>"),
    ),
    "condition-table": Target(
        fuzz_tables.conditions, fuzz_tables.condition_seeds, ("gen_radiology", "gen_core.table_file"),
        fuzz_tables.COLUMNS,
    ),
    "region-names": Target(fuzz_tables.regions, fuzz_tables.region_seeds, ("gen_radiology", "tomli")),
    "pseudonyms": Target(fuzz_tables.pseudonyms, fuzz_tables.pseudonym_seeds, ("gen_radiology", "gen_core.atomic")),
    "recipe": Target(
        _recipe, lambda: [seeds.RECIPE.encode(), b'gen = 1\nname = "a"\n[sweep]\n'], ("gen_core.recipe", "tomli"),
        (b"[codec.fit]", b"[features.a]", b"use = ", b"off = true", b"from = ", b"[[", b"]]", b"'''", b'"""', b"inf",
         b"nan", b"1979-05-27", b"[metrics.fid]", b'features = "features.random"', b"base = ", b"{a={a=1}}"),
    ),
    "set": Target(
        _override, lambda: [b"codec.fit.steps=5", b"sample.n=7\nvolume.size=[4,8,8]"], ("gen_core.recipe", "tomli"),
        (b"=", b".", b'"', b"'", b"[", b"]", b"{", b"}", b"metrics.", b"features.a.use", b"codec.use", b"off=true"),
    ),
    "safetensors": Target(
        _tensors, lambda: [seeds.safetensors()], ("gen_core.engine.checkpoint", "safetensors"),
        (b'"F8_E4M3"', b'"BF16"', b'"BOOL"', b'"__metadata__"', b"18446744073709551615", b'"shape":[]'),
    ),
    "state-json": Target(
        _state, lambda: [seeds.checkpoint_state(), seeds.checkpoint_state(files={"model.safetensors": "00"})],
        ("gen_core.engine.checkpoint", "json"), (b"null", b"[]", b"{}", b"NaN", b'"../a"', b'"files"', b'"format"'),
    ),
    "weights-json": Target(
        _record, lambda: [seeds.weights_record()], ("gen_core.engine.checkpoint", "json"), (b"null", b"[]", b"{}")
    ),
    "torch-file": Target(
        _foreign, lambda: [seeds.torch_file(), seeds.torch_file(True)],
        ("gen_core.foreign_weights", "gen_core.plain_pickle", "pickletools"), (), ("gen_core.foreign_weights",),
    ),
    "torch-index": Target(
        _foreign_index, _index_seeds,
        ("gen_core.foreign_weights", "gen_core.plain_pickle", "pickletools"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"cos\nsystem\n"),
        ("gen_core.foreign_weights",),
    ),
}  # fmt: skip


def case_of(path: Path) -> tuple[str, Target]:
    """Name and target of a kept case: tests/fuzz/cases/TARGET/NAME."""
    return path.parent.name, TARGETS[path.parent.name]


def scratch() -> str:
    """Where files are written: memory, where there is any."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
