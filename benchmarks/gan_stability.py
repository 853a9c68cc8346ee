"""Does stylegan2-ada train stably? Phantom heads of one slice, 32 x 32 pixels, some minutes on one thread.

    OMP_NUM_THREADS=1 python benchmarks/gan_stability.py          # 512 + 256 heads
    OMP_NUM_THREADS=1 python benchmarks/gan_stability.py --steps 100 --out strip.png

Prints the Frechet distance of samples to validation in features of random-conv64 and the recall, at initialization
and at the end, beside what training heads have; ends with 1 unless the distance fell by half and recall is above 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from gen_core.batch import Batch, collate
from gen_core.dataset import DatasetContext
from gen_core.engine.events import EventLog, read_events
from gen_core.engine.fit import fit
from gen_core.engine.seeds import sample_noise, seed_global
from gen_core.engine.source import TensorSource
from gen_core.features import FeaturesContext
from gen_core.options import FitOptions, SplitOptions, VolumeOptions
from gen_core.prior import PriorContext
from gen_core.registry import Registry

SIZE, TRAIN, VAL = 32, 512, 256
SETTINGS: dict[str, Any] = {
    "z_dim": 64, "w_dim": 64, "mapping_layers": 2, "channel_base": 512, "channel_max": 64, "r1_gamma": 0.1,
}  # fmt: skip
AUGMENT = {"images": 20_000}  # p moves 25 times as fast as published: the whole run sees fewer images
FIT = {"batch": 16, "lr": 2.5e-3, "betas": (0.0, 0.99), "optimizer": "adam", "ema": 0.99, "ema_start": 100}


def phantom(folder: Path) -> tuple[Tensor, Tensor, Any]:
    """(train, val) (N, 1, 1, 32, 32) and their spec."""
    total = TRAIN + VAL
    context = DatasetContext(VolumeOptions((1, SIZE, SIZE)), SplitOptions(val=VAL / total), 0, folder)
    component = Registry.load(allow="off").get("dataset", "brain-mri-phantom")
    dataset = component.build(component.options_class()(subjects=total, workers=1), context)
    dataset.prepare()
    train, val = (collate(list(dataset.split(name))).x for name in ("train", "val"))
    return train, val, dataset.spec


def samples(prior: Any, n: int, seed: int) -> Tensor:
    """n samples as the sampler `direct` draws them, each from its own seed."""
    with torch.no_grad():
        noise = sample_noise(seed, range(n), prior.noise_shape(1)[1:])(0)
        return torch.cat([prior.eval().draw(part) for part in noise.split(32)]).clamp(-1, 1)


class Scores:
    """fid and prdc of sets of heads, against validation."""

    def __init__(self, train: Tensor, val: Tensor, spec: Any):
        registry = Registry.load(allow="off")
        embedding = registry.get("features", "random-conv64")
        network = embedding.build(embedding.options_class()(), FeaturesContext(spec))
        self.context = SimpleNamespace(
            spec=spec, seed=0, device=None, cache=None, cost={}, real_splits_disjoint=True, prepared={},
            counts={"train": len(train), "val": len(val), "synthetic": len(val)}, features=lambda table: network,
        )  # fmt: skip
        self.metrics = [registry.get("metric", name) for name in ("fid", "prdc")]
        self.real = {"train": train[: len(val)], "val": val}

    def of(self, x: Tensor) -> dict[str, float]:
        """Score name -> value of samples x; "train ..." of as many training heads."""
        found = {}
        for component in self.metrics:
            metric = component.build(component.options_class()(), self.context)
            for source, rows in (*self.real.items(), ("synthetic", x)):
                ids = [f"{source}-{i}" for i in range(len(rows))]
                metric.update(Batch(rows, ids=ids, subjects=ids, hashes=ids), source)
            for value in metric.compute().values:
                if value.source in ("train", "synthetic"):
                    found[("train " if value.source == "train" else "") + value.name] = value.value
        return found


def save_strip(path: str, x: Tensor) -> None:
    """48 samples as a picture."""
    from PIL import Image

    rows = x[:48, 0, 0].reshape(4, 12, SIZE, SIZE).permute(0, 2, 1, 3).reshape(4 * SIZE, 12 * SIZE)
    picture = Image.fromarray(((rows + 1) * 127.5).round().byte().numpy())
    picture.resize((48 * SIZE, 16 * SIZE), Image.Resampling.NEAREST).save(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", help="write samples to this picture")
    parser.add_argument("--cache", help="keep the heads in this folder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        train, val, spec = phantom(Path(asked.cache or folder))
        component = Registry.load(allow="off").get("prior", "stylegan2-ada")
        cls = component.options_class()
        options = cls(
            **SETTINGS, augment=type(cls().augment)(**AUGMENT),
            fit=FitOptions(steps=asked.steps, log_every=max(1, asked.steps // 8), checkpoint_every=10**6, **FIT),
        )  # fmt: skip
        seed_global(0, "benchmark")
        prior = component.build(options, PriorContext(spec.shape, bounds=(-1.0, 1.0)))
        scores = Scores(train, val, spec)
        before = scores.of(samples(prior, len(val), 0))
        begun, busy = time.perf_counter(), time.process_time()
        log = Path(folder) / "events.jsonl"
        source = TensorSource(train)
        fit(prior, source, options.fit, folder=Path(folder) / "fit", stage="gan", seed=0, events=EventLog(log))
        seconds, busy = time.perf_counter() - begun, time.process_time() - busy
        x = samples(prior, len(val), 0)
        after = scores.of(x)
        for line in read_events(log):
            if line["kind"] == "train":
                keys = ("adversarial", "discriminator/real_logit", "discriminator/fake_logit", "discriminator/ada_p")
                print(line["step"], *(f"{k.split('/')[-1]} {line['values'][k]:.3f}" for k in keys))
    if asked.out:
        save_strip(asked.out, x)
    took = f"{seconds:.0f} s ({busy:.0f} s of processor time)"
    print(f"{asked.steps} steps of {options.fit.batch} in {took} on {torch.get_num_threads()} threads")
    print("| score | initialization | end | training heads |\n| --- | --- | --- | --- |")
    for name in after:
        if not name.startswith("train "):
            print(
                f"| {name} | {before[name]:.4g} | {after[name]:.4g} | {after.get('train ' + name, float('nan')):.4g} |"
            )
    good = after["fid"] < before["fid"] / 2 and after["recall"] > 0
    print("stable" if good else "NOT stable: the distance must fall by half, and recall must be above 0")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
