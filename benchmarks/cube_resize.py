"""A cube of 91 x 1288 x 1288 to 16 x 672 x 672: read everything and pool, against blocks with exact areas.

Peer: `np.load`, float32, `adaptive_avg_pool3d` (whose cells overlap where the ratio is no whole number). Ours,
"area": the same 3-D averaging with exact areas; "nearest": 16 of the 91 bands; both straight from the mapped file
into an array. The file lies in the system's file cache for both. Run: python benchmarks/cube_resize.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from harness import compare

from gen_core.writer import RawVolume
from gen_hyperspectral.area_resize import axis_weights
from gen_hyperspectral.bands import Selection
from gen_hyperspectral.preprocess import Policy, preprocess

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


def plain(path: Path, order: str) -> torch.Tensor:
    x = torch.from_numpy(np.load(path).astype(np.float32))
    x = x if order == "bsq" else x.permute(2, 0, 1).contiguous()
    return torch.nn.functional.adaptive_avg_pool3d(x[None], TARGET)[0]


def ours(path: Path, order: str, selection: Selection) -> np.ndarray:
    array = np.load(path, mmap_mode="r")
    out = np.empty(TARGET, np.float32)
    raw = RawVolume(array.transpose(1, 2, 0) if order == "bsq" else array, "yxb")
    preprocess(raw, selection, out, Policy(), str(path))
    return out


def main() -> None:
    bands = axis_weights(SOURCE[0], TARGET[0])
    area = Selection(np.arange(SOURCE[0]), bands.matrix(0, TARGET[0])[2])
    nearest = Selection(np.rint(np.linspace(0, SOURCE[0] - 1, TARGET[0])).astype(int))
    for dtype, order in (("uint16", "bsq"), ("float32", "bsq"), ("uint16", "bip")):
        path = file(dtype, order)
        compare(
            f"cube {dtype} {order}",
            {
                "read all + adaptive pool": lambda path=path, order=order: plain(path, order),
                "ours, area": lambda path=path, order=order: ours(path, order, area),
                "ours, nearest": lambda path=path, order=order: ours(path, order, nearest),
            },
            rounds=ROUNDS,
        )


if __name__ == "__main__":
    main()
