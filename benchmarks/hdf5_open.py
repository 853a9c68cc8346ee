"""What the process of the HDF5 library costs: cubes of 16 x 256 x 256 uint16, gzip, opened and read.

Peer: h5py in the process itself, all read with `file["cube"][()]`. Ours: the reader of the data set. Each side in a
fresh process: its first file, then the least and the median of thirty more; all lie in the system's file cache.
Run: python benchmarks/hdf5_open.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FILES = 31


def make(folder: Path) -> None:
    import h5py

    rng = np.random.default_rng(0)
    for n in range(FILES):
        with h5py.File(folder / f"{n}.h5", "w") as file:
            values = rng.integers(0, 4096, (16, 256, 256), dtype=np.uint16)
            file.create_dataset("cube", data=values, compression="gzip")
            file["wavelength_nm"] = np.linspace(400, 900, 16)


def plain(path: Path) -> tuple[float, float]:
    """Seconds to open a file and to have its values."""
    began = time.perf_counter()
    import h5py

    with h5py.File(path) as file:
        cube, _ = file["cube"], file["wavelength_nm"][()]
        opened = time.perf_counter() - began
        cube[()]
    return opened, time.perf_counter() - began


def ours(path: Path) -> tuple[float, float]:
    from gen_hyperspectral.containers.hdf5.reader import build
    from gen_hyperspectral.reader_options import Hdf5Reader

    began = time.perf_counter()
    raw = build(Hdf5Reader()).open(path)
    opened = time.perf_counter() - began
    np.asarray(raw.array)
    return opened, time.perf_counter() - began


def side(name: str, folder: Path) -> None:
    read = {"plain": plain, "ours": ours}[name]
    rows = [read(folder / f"{n}.h5") for n in range(FILES)]
    first = [f"{1000 * seconds:.0f}" for seconds in rows[0]]
    further = [f"{1000 * min(c):.1f}, {1000 * statistics.median(c):.1f}" for c in zip(*rows[1:])]
    held = 0
    if name == "ours":
        from gen_hyperspectral.containers.hdf5.library import library

        assert library._child is not None
        text = Path(f"/proc/{library._child.process.pid}/status").read_text()
        held = int(text.partition("VmRSS:")[2].split()[0]) >> 10
    print(f"| {name} | {' | '.join([*first, *further])} | {held} |")


def main() -> None:
    from harness import machine

    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        print(f"{machine()}\n\n| side | first: open, ms | and read | further: open | and read | its process, MB |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        for name in ("plain", "ours") * 3:
            subprocess.run([sys.executable, __file__, name, folder], check=True)


if __name__ == "__main__":
    side(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 1 else main()
