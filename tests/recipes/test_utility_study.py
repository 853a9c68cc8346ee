"""The study of usefulness: every table of it, at the size of the tiny recipe, from samples to areas and gains."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from gen_core.recipe import load_recipe
from gen_core.recipe.write import value_text
from gen_core.registry import Registry
from gen_core.run.api import RunRequest, run
from gen_core.run.graph import build_graph

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
STUDY = RECIPES / "studies" / "utility.toml"
SMALL = {
    "moco-resnet18": {"width": 8, "queue": 16, "embedding": 8, "fit": {"steps": 2, "batch": 4, "warmup": 1}},
    "mae-vit": {
        **{"width": 16, "heads": 2, "depth": 1, "decoder_width": 16, "decoder_depth": 1},
        "fit": {"steps": 2, "batch": 4, "warmup": 1},
    },
    "probe": {"fit": {"steps": 3, "batch": 8}},
}


@pytest.fixture(scope="module")
def study():
    return tomllib.loads(STUDY.read_text())


def tiny(study) -> str:
    """The tiny recipe with the study's feature networks and metrics; quick codecs and priors."""
    lines = ["# The study in seconds.  gen run study.toml", "gen = 1", 'name = "study"']
    lines += [f"base = {value_text(str(RECIPES / 'tiny.toml'))}", "[dataset]", "deposits = 0.5", "workers = 1"]
    lines += ["[codec.fit]", "steps = 2", "[prior.fit]", "steps = 2", "[segmenter.fit]", "steps = 2"]
    for name, table in study["features"].items():
        small = SMALL[table["use"]]
        merged = {**table, **small, "fit": {**table["fit"], **small["fit"]}}
        lines.append(f"[features.{name}]")
        lines += [f"{key} = {inline(value)}" for key, value in merged.items()]
    off = ["psnr", "ssim", "ms-ssim", "fid", "hyperspectral-fid", "spectral-kl", "anatomy", "memorization"]
    for name in off:
        lines += [f"[metrics.{name}]", "off = true"]
    for name, table in study["metrics"].items():
        if table.get("use") == "utility":
            lines += [f"[metrics.{name}]", 'use = "utility"', f"probes = {value_text(table['probes'])}"]
    return "\n".join(lines) + "\n"


def inline(value) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {inline(v)}" for k, v in value.items()) + " }"
    return value_text(value)


def test_the_whole_study_runs_at_tiny_size(study, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(tiny(study))
    outcome = run(RunRequest(path, out=tmp_path / "runs" / "study"))
    results = json.loads((outcome.folder / "metrics.json").read_text())["results"]
    for name, table in study["metrics"].items():
        if table.get("use") != "utility":
            continue
        result = results[name]
        areas = [v for v in result["values"] if v["name"].startswith("auc, ") and v["source"] == "val"]
        gains = [v for v in result["values"] if v["name"].startswith("auc gain")]
        assert len(areas) == len(table["probes"]) + 1, "one a probe, and the ceiling on these volumes"
        assert len(gains) == len(result["extra"]["comparisons"]) == len(table["probes"]) - 1
        assert all(0 <= v["low"] <= v["value"] <= v["high"] <= 1 for v in areas[:-1])
        ceiling = next(v for v in result["values"] if v["name"] == "auc, ceiling")
        assert ceiling["value"] == pytest.approx(0.9214, abs=1e-3)
        trained = [p["backbone"].get("train_on") for p in result["protocol"]["probes"].values()]
        assert trained == ["real", "synthetic", "both", None], "the last starts from fresh weights"


def test_samples_are_drawn_before_what_learns_from_them_and_probes_wait_for_their_network():
    recipe = load_recipe(STUDY, registry=Registry.load())
    steps = {s.name: s.upstream for s in build_graph(recipe, {})}
    order = list(steps)
    for net in ("moco", "mae"):
        for source in ("synthetic", "both"):
            assert "sample" in steps[f"fit.features.{net}-{source}"]
            for tune in ("linear", "full"):
                probe = f"fit.features.{net}-{tune}-{source}"
                assert f"fit.features.{net}-{source}" in steps[probe]
                assert order.index(probe) > order.index("sample")
        assert "sample" not in steps[f"fit.features.{net}-real"]


def test_as_many_samples_as_real_volumes_and_the_same_updates_for_each(study):
    recipe = load_recipe(STUDY, registry=Registry.load())
    data = recipe.table("dataset").options
    assert recipe.sample.n == data.subjects - round(data.subjects * recipe.split.val)
    for use in ("moco-resnet18", "mae-vit", "probe"):
        assert len({t["fit"]["steps"] for t in study["features"].values() if t["use"] == use}) == 1
