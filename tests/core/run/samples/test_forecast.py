"""What n samples will take: counted by hand, measured by the run itself, unknown where nobody measured it."""

from __future__ import annotations

import json

import pytest
from attrs import evolve

from gen_core.options import SampleOptions
from gen_core.run.folder import RunFolder
from gen_core.run.samples.forecast import forecast_samples, shape_of

SHAPE, LATENT = (2, 3, 5, 7), (4, 1, 2, 3)  # 210 and 24 values
OPTIONS = SampleOptions(n=100_000, batch=16, steps=20, format="npy")


@pytest.fixture
def drawn(tmp_path):
    """A run that has drawn 20 samples (32 with the padding of its last chunk) in 8 s, 900 bytes each in two files."""
    folder = RunFolder(tmp_path)
    (tmp_path / "steps" / "sample").mkdir(parents=True)
    settings = {"n": 20, "batch": 16, "steps": 20, "format": "npy", "precision": "float32"}
    head = {"sampler": "ddim", "steps": 20, "shape": list(SHAPE)}
    folder.finish("sample", {"fingerprint": "f", "settings": {"sample": settings}, "head": head})
    files = lambda i: {f"{i}.npy": {"sha256": "", "bytes": 850}, f"{i}.json": {"sha256": "", "bytes": 50}}
    (tmp_path / "samples").mkdir()
    rows = [{"index": i, "files": files(i)} for i in range(20)]
    (tmp_path / "samples" / "manifest.json").write_text(json.dumps({**head, "samples": rows}))
    cost = {
        "machine": {"cpu": "EPYC", "threads": 2},
        "steps": {"sample": {"seconds": 8.0, "volumes": 32, "peak_memory_mb": 359}},
    }
    (tmp_path / "cost.json").write_text(json.dumps(cost))
    return folder


def test_nothing_is_invented_where_nothing_was_measured(tmp_path):
    plan = forecast_samples(RunFolder(tmp_path), OPTIONS, "ddim", SHAPE, kept=True, latent=LATENT)
    assert (plan["volumes"], plan["chunks"], plan["folders"]) == (100_000, 6250, 10)
    assert plan["seconds_each"] is plan["hours"] is plan["files"] is None
    assert plan["disk_gib"] == {
        "samples": round(100_000 * 4 * 210 / 2**30, 3),
        "steps/sample": round(100_000 * 4 * 234 / 2**30, 3),
    }
    assert any("time: unknown, this run has drawn no samples yet" in line for line in plan["basis"])


def test_a_run_that_has_drawn_forecasts_from_its_own_figures(drawn):
    plan = forecast_samples(drawn, OPTIONS, "ddim", SHAPE, kept=False)
    assert plan["seconds_each"] == 0.25 and plan["hours"] == pytest.approx(100_000 / 4 / 3600, abs=1e-3)
    assert plan["files"] == 200_000
    assert plan["disk_gib"] == {"samples": round(100_000 * 900 / 2**30, 3)}
    assert any("memory: 359 MiB at most" in line for line in plan["basis"])
    assert any("measured over 32 on EPYC, 2 threads" in line for line in plan["basis"])


def test_shards_share_out_chunks_and_samples(drawn):
    plans = [forecast_samples(drawn, evolve(OPTIONS, n=70), "ddim", SHAPE, kept=False, shard=(i, 3)) for i in (1, 2, 3)]
    assert [p["chunks"] for p in plans] == [2, 2, 1]
    assert [p["volumes"] for p in plans] == [32, 22, 16]  # chunks 0 and 3, 1 and 4 (cut at 70), 2
    assert plans[1]["shard"] == "2of3"
    assert plans[1]["hours"] == pytest.approx(32 * 0.25 / 3600, abs=1e-3)  # a cut chunk is drawn whole


@pytest.mark.parametrize(
    ("change", "sampler", "shape", "why"),
    [
        ({"steps": 50}, "ddim", SHAPE, "steps 20 instead of 50"),
        ({"batch": 8}, "ddim", SHAPE, "batch 16 instead of 8"),
        ({"precision": "bf16"}, "ddim", SHAPE, "precision float32 instead of bf16"),
        ({}, "ddpm", SHAPE, "sampler ddim instead of ddpm"),
        ({}, "ddim", (2, 3, 5, 8), "shape"),
    ],
)
def test_time_measured_under_other_settings_is_not_taken(drawn, change, sampler, shape, why):
    plan = forecast_samples(drawn, evolve(OPTIONS, **change), sampler, shape, kept=False)
    assert plan["hours"] is None and any("unknown" in line and why in line for line in plan["basis"])


def test_the_shape_is_that_which_prepare_recorded(tmp_path):
    first, second = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "second")
    assert shape_of(first) is None
    (first.path / "steps" / "prepare").mkdir(parents=True)
    spec = {"spec": {"channels": ["a", "b"], "size": [3, 5, 7]}}
    (first.path / "steps" / "prepare" / "prepared.json").write_text(json.dumps(spec))
    first.finish("prepare", {"fingerprint": "f"})
    second.refer("prepare", first.path / "steps" / "prepare", {"fingerprint": "f"})  # a step taken from another run
    assert shape_of(first) == shape_of(second) == SHAPE
