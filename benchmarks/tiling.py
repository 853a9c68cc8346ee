"""Peak memory and time of a VQ codec against the size of the volume: whole, in tiles, in tiles with a file.

Each figure comes from a fresh process: the rise of its VmHWM while one volume is encoded and its latent decoded.

    python benchmarks/tiling.py                # the table; also kept in results/tiling.json
    python benchmarks/tiling.py --page         # from what was kept: results/tiling.md and docs/images/tiling_memory.svg
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import _status_mb, keep, results_folder, stamp

SIDES = (112, 224, 336, 448)  # of volumes 16 x side x side
TILE = (16, 112, 112)
WAYS = {"whole": "the plain network", "tiled": "tiles, activations in memory", "file": "tiles, activations in a file"}
COLOUR = {"whole": "#c24e32", "tiled": "#1f7a9c", "file": "#4f8a4c"}
HERE = Path(__file__).resolve().parent


def measure(way: str, side: int) -> dict[str, float]:
    """In the fresh process: code one volume of 16 x side x side."""
    import torch

    from gen_codecs.vq_codec import build_vqvae
    from gen_codecs.vq_options import Vqvae
    from gen_core.codec import CodecContext
    from gen_core.options import TilingOptions
    from gen_core.tiling.tiles import Tiles
    from gen_core.volume import VolumeSpec

    torch.manual_seed(0)
    size = (16, side, side)
    codec = build_vqvae(Vqvae(width=8), CodecContext(VolumeSpec(size=size))).eval().requires_grad_(False)
    codec.codebook.codebook.normal_()
    x = torch.rand(1, 1, *size) * 2 - 1
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        codec.decode(codec.encode(x[..., :32, :32]))  # what a first call sets up
        if way != "whole":
            memory = 1e-6 if way == "file" else 1e3  # so little that all goes to the file, so much that none does
            options = TilingOptions(mode="exact", tile=TILE, memory_gib=memory)
            codec.tiles = Tiles(options, torch.device("cpu"), Path(folder))
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to what is resident now
        before, start, cpu = _status_mb("VmHWM"), time.perf_counter(), time.process_time()
        codec.decode(codec.encode(x))
        return {
            "extra_mb": _status_mb("VmHWM") - before,
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu,
        }


def run() -> None:
    rows = []
    for side in SIDES:
        for way in WAYS:
            command = [sys.executable, __file__, "--one", way, str(side)]
            out = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
            row: dict[str, Any] = {"name": f"{way} {side}", "way": way, "side": side, **stamp(), **json.loads(out)}
            print(f"16 x {side} x {side}, {way}: {row['extra_mb']:.0f} MB, {row['cpu_seconds']:.1f} CPU s", flush=True)
            rows.append(row)
    keep("tiling", rows)


def page() -> None:
    """results/tiling.md and the figure, from results/tiling.json."""
    rows = json.loads((results_folder() / "tiling.json").read_text())["rows"]
    at = {(row["way"], row["side"]): row for row in rows}
    lines = [
        "# Tiles: memory against volume size",
        "",
        f"`python benchmarks/tiling.py`, {rows[0]['date']}; {rows[0]['machine']}; a busy machine (load "
        f"{rows[0]['load']}), which is why CPU seconds stand here. VQ-VAE of stride 8 and width 8, tiles of "
        f"{' x '.join(map(str, TILE))} voxels; rise of VmHWM of a fresh process while one volume is encoded and its "
        "latent decoded, the reconstruction included.",
        "",
        "| volume | " + " | ".join(f"{name}: MB, CPU s" for name in WAYS.values()) + " |",
        "| --- |" + " --- |" * len(WAYS),
    ]
    for side in sorted({row["side"] for row in rows}):
        cells = [f"{at[w, side]['extra_mb']:.0f}, {at[w, side]['cpu_seconds']:.1f}" for w in WAYS]
        lines.append(f"| 16 x {side} x {side} | " + " | ".join(cells) + " |")
    lines += ["", "![Peak memory against volume size](../../docs/images/tiling_memory.svg)", ""]
    (results_folder() / "tiling.md").write_text("\n".join(lines))
    figure(at, HERE.parent / "docs" / "images" / "tiling_memory.svg")


def figure(at: dict[tuple[str, int], dict[str, Any]], path: Path) -> None:
    """A line a way; drawn on white, so that it reads on light and dark pages."""
    import matplotlib

    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "gen", "font.size": 9})
    from matplotlib.figure import Figure

    plot = Figure(figsize=(6.2, 3.4), layout="constrained", facecolor="white")
    axes = plot.add_subplot(facecolor="white")
    for way, name in WAYS.items():
        sides = sorted(side for w, side in at if w == way)
        x = [16 * side * side / 1e6 for side in sides]
        y = [at[way, side]["extra_mb"] for side in sides]
        axes.plot(x, y, marker="o", markersize=4, color=COLOUR[way])
        axes.annotate(
            name,
            (x[-1], y[-1]),
            (-6, -14 if way == "file" else 6),
            textcoords="offset points",
            ha="right",
            color=COLOUR[way],
        )
    axes.set(xlabel="voxels, millions", ylabel="peak memory beside the volume, MB", xlim=(0, None), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e8ecef", linewidth=0.7)
    axes.set_axisbelow(True)
    path.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(measure(sys.argv[-2], int(sys.argv[-1]))))
    elif "--page" in sys.argv:
        page()
    else:
        run()
        page()
