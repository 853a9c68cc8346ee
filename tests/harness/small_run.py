"""The run that is killed and damaged: every step and every kind of file, in about a second; and what must be equal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from durability import read_trace
from zygote import Ended, Zygote

RECIPE = """
# A run of a second.  gen run small.toml
gen = 1
name = "small"
[volume]
size = [4, 8, 12]
[split]
val = 0.25
[dataset]
use = "retina-phantom"
subjects = 12
workers = 1
[codec]
use = "vqgan"
stride = [2, 4, 4]
levels = 2
width = 4
multipliers = [1, 1]
blocks_encoder = 1
blocks_decoder = 1
norm_groups = 2
latent_channels = 2
codes = 8
[codec.codebook]
queue = 64
[codec.discriminator]
start = 2
width = 4
layers = 1
[codec.fit]
steps = 6
batch = 2
precision = "float32"
checkpoint_every = 2
validate_every = 2
log_every = 2
select = "l1"
[prior]
use = "ddpm3d"
base = 8
multipliers = [1]
attention = "none"
steps = 10
[prior.fit]
steps = 6
batch = 2
ema = 0.9
ema_start = 0
ema_every = 1
checkpoint_every = 2
validate_every = 3
log_every = 2
[sampler]
use = "ddim"
[sample]
n = 5
batch = 2
steps = 2
[features.codec]
use = "codec"
[metrics.psnr]
[metrics.fid]
features = "features.codec"
[metrics.ms-ssim]
pairs = 4
[evaluate.reject]
by = ["metrics.ms-ssim"]
[report]
off = true
"""
REPORTED = RECIPE.replace("[report]\noff = true", "[report]")  # drawing takes longer than all the rest together

JUDGED = """
from gen_metrics.ms_ssim import MsSsim
MsSsim.judge = lambda self: {"sample-000001": "a twin of sample 0", "sample-000004": "black"}
"""  # run in the process: no metric judges volumes of so few voxels

CLOCKS = ("cost.json", "timed.json", "events.jsonl", "report.html", "machine.json", "done.json")
"""Files that hold times, or how often a step was begun: all others must be equal byte for byte."""


def write_recipe(folder: Path, recipe: str = RECIPE) -> None:
    """Make the working folder of one run."""
    folder.mkdir(parents=True)
    (folder / "small.toml").write_text(recipe)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of everything that must be equal: weights, latents, samples, scores, the locked recipe."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in CLOCKS and "checkpoints" not in path.parts
    }


def curves(folder: Path) -> list[dict]:
    """The lines of events.jsonl that tell of losses and validation, without their times.

    Step by step: a step that is made again later tells the same, only later.
    """
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["kind"] in ("train", "validation", "epoch")]
    kept.sort(key=lambda line: line["stage"])
    return [{k: v for k, v in line.items() if k not in ("time", "crc")} for line in kept]


def leftovers(folder: Path) -> list[str]:
    """Files on their way that stayed."""
    return [str(path.relative_to(folder)) for name in ("*.partial*", ".tmp*") for path in folder.rglob(name)]


COMMAND = ("run", "small.toml", "--out", "run")


def start(zygote: Zygote, folder: Path, **more: Any) -> Ended:
    """Begin the run of a working folder, or go on with it."""
    return zygote.run(*COMMAND, folder=folder, **{"patch": JUDGED, **more})


class Uninterrupted:
    """The run nobody disturbed. folder: its working folder, with the run and the cache; trace: its operations."""

    def __init__(self, zygote: Zygote, where: Path, recipe: str = RECIPE) -> None:
        self.folder = where / "work"
        write_recipe(self.folder, recipe)
        ended = start(zygote, self.folder, record=where / "trace.jsonl")
        assert ended.code == 0, ended.text
        self.trace = read_trace(where / "trace.jsonl")
        self.digests, self.curves = digests(self.folder), curves(self.folder / "run")
        self.seconds = ended.seconds

    def differences(self, folder: Path) -> list[str]:
        """What of another run is not as in this one: files by name, the curves, files on their way that stayed."""
        found = digests(folder)
        names = sorted(n for n in self.digests.keys() | found.keys() if self.digests.get(n) != found.get(n))
        names += ["events.jsonl"] * (curves(folder / "run") != self.curves)
        return names + leftovers(folder / "run")
