"""Readers on thousands of damaged files: a cube or one line that names the file, never anything else."""

import time
import warnings

import numpy as np
import pytest
import scipy.io

from gen_core.errors import DataError
from gen_hyperspectral.containers import envi as read_envi
from gen_hyperspectral.containers import npy as read_npy
from gen_hyperspectral.containers.mat import reader as read_mat
from gen_hyperspectral.reader_options import EnviReader, MatReader, NpyReader

READERS = {
    ".npy": read_npy.build(NpyReader()),
    ".npz": read_npy.build(NpyReader()),
    ".mat": read_mat.build(MatReader()),
    ".hdr": read_envi.build(EnviReader()),
}
ENVI = (
    "ENVI\nsamples=7\nlines = 5\nbands = 3\ndata type = 5\ninterleave = bsq\nbyte order = 0\nheader offset = 0\n"
    "wavelength units = nm\nwavelength = {1,\n2,3}\nbbl={1,1,0}\ndata ignore value = 0\n"
)


def originals(folder):
    cube = np.random.default_rng(0).random((5, 7, 3))
    np.save(folder / "a.npy", cube)
    np.savez(folder / "b.npz", x=cube, wl=np.arange(3.0))
    np.savez_compressed(folder / "c.npz", x=cube)
    scipy.io.savemat(folder / "d.mat", {"x": cube, "wl": [1.0, 2, 3], "s": {"t": "u"}}, do_compression=False)
    scipy.io.savemat(folder / "e.mat", {"x": cube, "bbl": np.uint8([1, 1, 0])}, do_compression=True)
    (folder / "f.hdr").write_text(ENVI)
    (folder / "damaged.dat").write_bytes(cube.tobytes())
    return sorted(p for p in folder.iterdir() if p.suffix != ".dat")


def damage(data, rng):
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data) if rng.random() < 0.5 else min(300, len(data))))
        how = rng.integers(4)
        if how == 0:
            data[at] = int(rng.integers(256))
        elif how == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif how == 2:
            del data[at : at + int(rng.integers(1, 20))]
        else:
            data[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8))
        data = data or bytearray(b"x")
    return data


@pytest.mark.parametrize("seed", [0, 1])
def test_damage_is_refused_in_one_line(seed, tmp_path, rounds=150):
    rng, refused = np.random.default_rng(seed), 0
    for original in originals(tmp_path):
        for _ in range(rounds):
            path = tmp_path / f"damaged{original.suffix}"
            path.write_bytes(damage(bytearray(original.read_bytes()), rng))
            reader, began = READERS[original.suffix], time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    array = np.asarray(reader.open(path, guess=True).array)
                    assert array.ndim == 3 and array.nbytes < 1 << 20
                except DataError as error:
                    refused += 1
                    assert "damaged" in str(error) and "\n" not in str(error)
            path.unlink()
            assert time.perf_counter() - began < 5
    assert refused > 2 * rounds  # the damage is real
