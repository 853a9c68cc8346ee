"""A cube of 91 x 1288 x 1288 to 16 x 672 x 672: read everything and pool, against blocks with exact areas.

Peer: `np.load`, h5py or nibabel, float32, `adaptive_avg_pool3d` (whose cells overlap where the ratio is no whole
number). Ours, "area": the same 3-D averaging with exact areas; "nearest": 16 of the 91 bands; both through the readers
of the data set, from the file into an array. The file lies in the system's file cache for all.
Run: python benchmarks/cube_resize.py [npy | packed]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from harness import compare

from gen_hyperspectral.containers import nifti as read_nifti_cube
from gen_hyperspectral.containers import npy as read_npy
from gen_hyperspectral.containers.hdf5 import reader as read_hdf5
from gen_hyperspectral.cubes import inflate
from gen_hyperspectral.prepare.area_resize import axis_weights
from gen_hyperspectral.prepare.band_blocks import Policy
from gen_hyperspectral.prepare.bands import Selection
from gen_hyperspectral.prepare.preprocess import preprocess
from gen_hyperspectral.reader_options import Hdf5Reader, NiftiCubeReader, NpyReader

SOURCE, TARGET = (91, 1288, 1288), (16, 672, 672)
FOLDER = Path(tempfile.gettempdir()) / "gen-benchmark-cube"
ROUNDS = 5


def file(dtype: str, order: str) -> Path:
    """The cube on disk, made once: band by band ("bsq") or pixel by pixel ("bip")."""
    path = FOLDER / f"{dtype}-{order}.npy"
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        shape = SOURCE if order == "bsq" else (*SOURCE[1:], SOURCE[0])
        beside = path.with_suffix(".part.npy")
        out = np.lib.format.open_memmap(beside, "w+", dtype, shape)
        rng = np.random.default_rng(0)
        for i in range(len(out)):
            out[i] = rng.integers(0, 4096, shape[1:], dtype=np.uint16)
        out.flush()
        beside.rename(path)
    return path


def packed(kind: str) -> Path:
    """The uint16 cube as HDF5 (chunks of h5py's choice, gzip 4) or NIfTI (gzip 1), made once."""
    path = FOLDER / f"cube.{kind}"
    if path.exists():
        return path
    array = np.load(file("uint16", "bsq"), mmap_mode="r")
    beside = FOLDER / f"part-{path.name}"
    if kind == "h5":
        import h5py

        with h5py.File(beside, "w") as out:
            out.create_dataset("cube", data=array, chunks=True, compression="gzip")
    else:
        import nibabel

        nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)).to_filename(beside)
    beside.rename(path)
    return path


def pool(array: np.ndarray, order: str) -> torch.Tensor:
    x = torch.from_numpy(array.astype(np.float32))
    x = x if order == "bsq" else x.permute(2, 0, 1).contiguous()
    return torch.nn.functional.adaptive_avg_pool3d(x[None], TARGET)[0]


def plain_hdf5(path: Path) -> torch.Tensor:
    import h5py

    with h5py.File(path) as file:
        return pool(file["cube"][:], "bsq")


def plain_nifti(path: Path) -> torch.Tensor:
    import nibabel

    return pool(np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0), "bsq")


def ours(path: Path, order: str, selection: Selection) -> np.ndarray:
    axes = "byx" if order == "bsq" else "yxb"
    if path.suffix == ".h5":
        raw = read_hdf5.build(Hdf5Reader(axes)).open(path)
    elif path.suffix == ".gz":
        raw = read_nifti_cube.build(NiftiCubeReader()).open(path)
    else:
        raw = read_npy.build(NpyReader(axes)).open(path)
    out = np.empty(TARGET, np.float32)
    preprocess(raw, selection, out, Policy(), str(path))
    return out


def main() -> None:
    bands = axis_weights(SOURCE[0], TARGET[0])
    area = Selection(np.arange(SOURCE[0]), bands.matrix(0, TARGET[0])[2])
    nearest = Selection(np.rint(np.linspace(0, SOURCE[0] - 1, TARGET[0])).astype(int))
    wanted = next((a for a in sys.argv[1:] if a in ("npy", "packed")), "")
    for dtype, order in (("uint16", "bsq"), ("float32", "bsq"), ("uint16", "bip")) if wanted != "packed" else ():
        path = file(dtype, order)
        compare(
            f"cube {dtype} {order}",
            {
                "read all + adaptive pool": lambda path=path, order=order: pool(np.load(path), order),
                "ours, area": lambda path=path, order=order: ours(path, order, area),
                "ours, nearest": lambda path=path, order=order: ours(path, order, nearest),
            },
            rounds=ROUNDS,
        )
    library = inflate.ENGINE.__name__.partition(".")[0]
    for kind, read in (("h5", plain_hdf5), ("nii.gz", plain_nifti)) if wanted != "npy" else ():
        path = packed(kind)
        compare(
            f"cube uint16 {kind} gzip ({library})",
            {
                "read all + adaptive pool": lambda path=path, read=read: read(path),
                "ours, area": lambda path=path: ours(path, "bsq", area),
                "ours, nearest": lambda path=path: ours(path, "bsq", nearest),
            },
            rounds=ROUNDS,
        )


if __name__ == "__main__":
    main()
