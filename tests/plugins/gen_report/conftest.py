"""A finished run that never was: phantom-like volumes, events, scores and costs, for the report's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define, field

from gen_core.report import Features
from gen_core.volume import Sample, Scale, VolumeSpec


def eye(seed: int, size: tuple[int, int, int], soft: float = 0.0) -> np.ndarray:
    """(1, D, H, W) in [-1, 1]: a round field with a disc and two dark arcades."""
    d, h, w = size
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    disc = np.exp(-((x - 0.45 + 0.1 * rng.normal()) ** 2 + (y + 0.1 * rng.normal()) ** 2) / 0.02)
    arcade = np.exp(-((np.abs(y) - 0.55 + 0.5 * (x - rng.uniform(0, 0.2)) ** 2) ** 2) / 0.002)
    field_ = 1 / (1 + np.exp((np.hypot(x, y) - 0.92) * 40))
    bands = np.linspace(0, 1, d)[:, None, None]
    volume = (0.45 + 0.15 * np.cos(2 * x)) + 0.4 * disc - 0.35 * arcade * (1 - 0.8 * bands)
    volume = volume * field_ + 0.02 * (1 - soft) * rng.normal(size=(d, h, w))
    return np.clip(2 * volume - 1, -1, 1).astype(np.float32)[None]


@define(eq=False, slots=False)
class FakeRun:
    """A `RunView`."""

    folder: Path
    spec: VolumeSpec
    name: str = "phantom-eyes"
    doc: str = "Phantom eyes, for a look at the page.\n\ngen run somewhere.toml"
    recipe: dict[str, Any] = field(factory=dict)
    events: list[dict[str, Any]] = field(factory=list)
    metrics: dict[str, Any] = field(factory=dict)
    cost: dict[str, Any] = field(factory=dict)
    prepared: dict[str, Any] = field(factory=dict)
    steps: dict[str, dict[str, Any]] = field(factory=dict)
    volumes: int = 40
    aside: dict[str, list[str]] = field(factory=dict)

    def _volume(self, seed: int, soft: float = 0.0) -> np.ndarray:
        return np.concatenate([eye(seed + 1000 * c, self.spec.size, soft) for c in range(len(self.spec.channels))])

    def real(self, split: str, n: int) -> list[Sample]:
        first = 0 if split == "train" else 500
        ids = [f"{split}-{k:03d}" for k in range(min(n, self.volumes))]
        return [Sample(self._volume(first + k), i, i, i, scale=self.spec.scale) for k, i in enumerate(ids)]

    def reconstructions(self, n: int) -> list[tuple[Sample, np.ndarray]]:
        return [(s, self._volume(500 + k, 1.0)) for k, s in enumerate(self.real("val", n))]

    def synthetic(self, n: int) -> list[tuple[str, np.ndarray]]:
        return [(f"sample-{k:06d}", self._volume(900 + k)) for k in range(min(n, self.volumes))]

    def find(self, id: str, most: int = 0) -> Sample | None:
        kind, _, number = id.rpartition("-")
        k, first = int(number), {"train": 0, "val": 500, "sample": 900}[kind]
        if kind != "sample" and most and k >= most:
            return None
        return Sample(self._volume(first + k), id, id, id, scale=self.spec.scale)

    def rejected(self) -> dict[str, list[str]]:
        return self.aside

    def features(self, n: int) -> Features | None:
        n = min(n, self.volumes)
        if n < 2:
            return None
        rng = np.random.default_rng(4)
        return Features("features.codec", 7, {s: rng.normal(size=(n, 7)) for s in ("train", "val", "synthetic")})

    def interpolation(self, frames: int, most_steps: int) -> list[tuple[float, np.ndarray]]:
        a, b = self._volume(900), self._volume(901)
        return [(u, (1 - u) * a + u * b) for u in np.linspace(0, 1, frames)]

    def denoising(self, frames: int, most_steps: int) -> list[tuple[float, np.ndarray, np.ndarray]]:
        return [(t, self._volume(900), self._volume(900, 1.0)) for t in np.linspace(1, 0, frames)]


def value(name: str, v: float, source: str, **more: Any) -> dict[str, Any]:
    keys = dict(against="val", low=None, high=None, interval="", floor=None, n=40, better="", flag="")
    return {"name": name, "value": v, "source": source, **keys, **more}


def fill(run: FakeRun) -> FakeRun:
    """Everything a finished run has."""
    rng, d = np.random.default_rng(0), run.spec.size[0]
    run.recipe = {
        "gen": 1,
        "name": run.name,
        "seed": 3,
        "demonstration": "forty drawn eyes and no network at all",
    }
    run.recipe |= {"dataset": {"use": "retina-phantom"}, "codec": {"use": "vqvae", "stride": [16, 4, 4]}}
    run.recipe |= {"evaluate": {"reject": {"by": ["metrics.memorization"]}}}
    run.aside = {f"sample-{k:06d}": [f"memorization: a copy of train-{k:03d}", "black"] for k in (41, 47)}
    run.steps = {
        "fit.codec": {"parameters": 5_930_000, "steps": 2100, "notes": ["[codec] the perceptual loss is off"]},
        "fit.prior": {"parameters": 38_300_000, "steps": 2000, "notes": []},
    }
    run.recipe |= {"prior": {"use": "ddpm3d"}, "sampler": {"use": "dpm++2m"}}
    for stage, names in (("fit.codec", ("loss", "perplexity")), ("fit.prior", ("loss",))):
        for step in range(50, 2001, 50):
            values = {n: float(3 * np.exp(-step / 300) + 0.05 + 0.02 * rng.random()) for n in names}
            run.events.append({"kind": "train", "stage": stage, "step": step, "values": {**values, "lr": 1e-3}})
            if step % 500 == 0:
                run.events.append({"kind": "validation", "stage": stage, "step": step, "values": {"loss": 0.2}})
    run.events.append({"kind": "epoch", "stage": "fit.codec", "step": 128, "values": {"codes_reset": None}})
    mean = np.linspace(-0.4, 0.5, d * len(run.spec.channels))
    bent = lambda k: {"mean": (mean + k).tolist(), "sd": (0.1 + 0 * mean).tolist(), "pixels": 4321}
    structures = {s: {"val": bent(0), "reconstruction": bent(0.02), "synthetic": bent(0.05)} for s in ("vessel", "onh")}
    near = [
        {
            "id": f"sample-{k:06d}",
            "copy": k == 7,
            "train": [f"train-{(k + j) % 40:03d}" for j in range(10)],
            "distance": [2.0 + 0.1 * k + j for j in range(10)],
            "mirrored": [k % 2 == 0] * 10,
        }
        for k in range(40)
    ]
    over_n = {"n": [10, 20, 40], "value": [5.0, 3.0, 2.0], "limit": 1.0, "slope": 40.0}
    over_n |= {"spread": [0.5, 0.3, 0.0], "se": 0.2, "low": 0.6, "high": 1.4}
    shares = {"precision": {"mean": 0.72, "sd": 0.1}, "recall": {"mean": 0.6, "sd": 0.1}, "dice": {"mean": 0.65}}
    sure = {**shares, "precision": {"mean": 0.97, "sd": 0.02}}
    found = [
        {"class": c, "stage": s, "n": 20, **(shares if s == "before" else sure)}
        for c in ("vein", "onh")
        for s in ("before", "after")
    ]
    aucs = [
        value("auc, real", 0.81, "val", low=0.7, high=0.9, n=20),
        value("auc, both", 0.86, "val", low=0.76, high=0.95, n=20),
    ]
    aucs += [
        value("auc gain, both over real", 0.05, "val", low=-0.01, high=0.11, n=20),
        value("auc, ceiling", 0.97, "", n=0),
    ]
    nm = list(run.spec.wavelength_nm) if run.spec.wavelength_nm else None
    results = {
        "psnr": {"values": [value("psnr", 33.412, "reconstruction", low=33.0, high=33.8, better="higher")]},
        "fid": {
            "values": [
                value("fid", 1.69, "train", better="lower"),
                value(
                    "fid",
                    6.086,
                    "synthetic",
                    low=5.5,
                    high=6.6,
                    floor=1.69,
                    better="lower",
                    flag="N = 40 is small",
                ),
            ],
            "protocol": {
                "extractor": {"name": "codec", "hash": "0123abcd"},
                "definition": "Frechet distance",
                "features": {"name": "codec"},
                "dim": 64,
            },
            "extra": {
                "over_n": {"synthetic": over_n, "train": {"n": [40], "value": [2.0]}},
                "over_triplets": {"synthetic": over_n},
                "planes": {"synthetic": {"axial": 3.0, "coronal": 2.0}, "train": {"axial": 1.0, "coronal": 0.5}},
            },
        },
        "segmentation": {
            "values": [value("precision vein", 0.72, "val", low=0.7, high=0.75, better="higher")],
            "extra": {"table": found},
        },
        "utility": {"values": aucs, "protocol": {"label": "deposits", "n": {"present": 8, "absent": 12}}},
        "recovery": {
            "values": [
                value("recovered, moco l1", 0.65, "train", n=40),
                value("recovered, pixels l1", 0.3, "train", n=40),
            ]
        },
        "spectral-kl": {
            "values": [value("kl vessel", 0.15, "synthetic", floor=0.08)],
            "extra": {"signatures": {"wavelength_nm": nm, "structures": structures}},
        },
        "memorization": {
            "values": [
                value("copies, share", 0.025, "synthetic", floor=0.01),
                value("copies, binomial test p", 0.33, "synthetic"),
            ],
            "extra": {
                "neighbours": near,
                "threshold": 2.3,
                "distances": {
                    "val": rng.gamma(9, 0.6, 40).tolist(),
                    "synthetic": rng.gamma(9, 0.65, 40).tolist(),
                    "planted, noisy": rng.gamma(4, 0.1, 40).tolist(),
                },
            },
        },
    }
    run.metrics = {"recipe": run.name, "results": results}
    steps = {
        "prepare": 4.0,
        "fit.codec": 120.0,
        "encode": 8.5,
        "fit.prior": 95.0,
        "sample": 21.0,
        "evaluate": 30.0,
    }
    run.cost = {
        "machine": {"cpu": "a processor", "cores": 2, "torch": "2.13.0"},
        "total_seconds": 278.5,
        "steps": {k: {"seconds": v, "attempts": 1, "peak_memory_mb": 1200} for k, v in steps.items()},
    }
    run.cost["steps"]["sample"] |= {"sampling_seconds": 15.0, "decode_seconds": 5.0, "volumes": 40}
    splits = {"train": {"volumes": 40, "subjects": ["a", "b"]}, "val": {"volumes": 20, "subjects": ["c"]}}
    run.prepared = {
        "splits": splits,
        "volumes": {"train": 40, "val": 20},
        "notes": ["one subject: regions of it"],
    }
    return run


def spec(size: tuple[int, int, int], channels: tuple[str, ...] = ("reflectance",), **more: Any) -> VolumeSpec:
    shape = (len(channels), size[0], 1, 1)
    hi = np.linspace(0.01, 0.2, len(channels) * size[0]).reshape(shape).astype(np.float32)
    return VolumeSpec(size=size, channels=channels, scale=Scale(0 * hi, hi), units="reflectance", **more)


@pytest.fixture
def make_run(tmp_path):
    """make_run(size, channels, filled, ...) -> a FakeRun in a folder of its own."""

    def make(size=(16, 64, 64), channels=("reflectance",), filled=True, **more: Any) -> FakeRun:
        if "depth" not in more and size[0] > 1:
            more["wavelength_nm"] = tuple(np.linspace(450, 900, size[0]))
        run = FakeRun(tmp_path, spec(size, channels, **more))
        return fill(run) if filled else run

    return make
