"""What each command asks of core, and what it prints."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest


def test_run_hands_every_option_on(gen, fake_api, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    words = "--set prior.fit.lr=1e-4 --set codec.codes=7 --resume must --fork b --from encode --until sample"
    words += " --only fit.prior --smoke --seed 3 --device cpu --offline"
    result = gen("run", "tiny", "--out", tmp_path / "o", *words.split())
    assert result.exit_code == 0, result.stderr
    ((name, (request, progress), _),) = fake_api.calls
    assert name == "run" and hasattr(progress, "step_started")
    assert request.overrides == ("prior.fit.lr=1e-4", "codec.codes=7")
    assert (request.recipe, request.out, request.resume, request.fork) == (
        "tiny",
        tmp_path / "o",
        "must",
        "b",
    )
    assert (request.from_step, request.until_step, request.only_step) == ("encode", "sample", "fit.prior")
    assert (request.smoke, request.seed, request.device, request.offline) == (True, 3, "cpu", True)
    assert not request.dry_run and os.environ.pop("HF_HUB_OFFLINE") == "1"
    for name in ("TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.pop(name)


def test_run_json_is_one_object_at_the_end(gen, fake_api, tmp_path):
    found = json.loads(gen("run", "tiny", "--json").stdout)
    assert found["folder"] == str(tmp_path) and found["steps"][0]["step"] == "prepare"


def test_dry_run_prints_the_plan(gen, fake_api):
    fake_api.plan = {
        "recipe": "tiny",
        "steps": [
            {"step": "prepare", "state": "done", "after": []},
            {"step": "fit.codec", "state": "to do", "after": ["prepare"], "updates": 12, "batch": 4},
        ],
        "shapes": ["source (1, 91, 1288, 1288)", "volume (1, 16, 672, 672)", "latent (8, 2, 84, 84)"],
        "parameters": {"codec": 5_900_000},
        "memory_gib": {"fit.codec": 3.25},
        "missing": ["dataset.root: not set"],
    }
    text = gen("run", "tiny", "--dry-run").stdout
    assert "(1, 91, 1288, 1288)\n     -> volume (1, 16, 672, 672)\n     -> latent (8, 2, 84, 84)" in text
    assert "5.9 M (5900000)" in text and "about 3.25 GiB" in text and "missing: dataset.root: not set" in text
    assert json.loads(gen("run", "tiny", "--dry-run", "--json").stdout) == fake_api.plan
    assert [c[0] for c in fake_api.calls] == ["plan", "plan"] and fake_api.calls[0][1][0].dry_run


def test_single_steps_name_their_step(gen, fake_api):
    gen("train", "--run", "r", "--set", "codec.codes=7", "--device", "cpu")
    gen("sample", "--run", "r", "--redo")
    shown = gen("evaluate", "--run", "r").stdout
    gen("report", "--run", "r")
    asked = [(a[1], a[2] if len(a) > 2 else (), k.get("redo", False)) for _, a, k in fake_api.calls]
    assert asked == [
        ("train", ("codec.codes=7", 'device="cpu"'), False),
        ("sample", (), True),
        ("evaluate", (), False),
        ("report", (), True),
    ]
    assert "6.086" in shown and "5.5 .. 6.6" in shown and "! fid, fid (synthetic): N is small" in shown


def test_more_samples_hand_every_option_on(gen, fake_api, tmp_path):
    words = "-n 9 --shard 2/3 --steps 10 --sampler ddim --format envi --seed 4 --device cpu --json"
    words += " --condition kind=lesion --condition age=40 --mask lesion=m.nii --conditions val"
    words += " --guidance 2 --spacing edm"
    result = gen("sample", "--run", "r", "--out", tmp_path, *words.split())
    assert json.loads(result.stdout)["samples"] == 7
    ((name, args, kwargs),) = fake_api.calls
    assert name == "sample_more" and args == (Path("r"), 9) and kwargs.pop("progress")
    assert kwargs == {
        "shard": (2, 3), "steps": 10, "sampler": "ddim", "format": "envi", "out": tmp_path, "seed": 4, "device": "cpu",
        "fixed": {"kind": "lesion", "age": "40", "lesion": "m.nii"}, "conditions": "val", "guidance": 2.0,
        "spacing": "edm", "dry_run": False,
    }  # fmt: skip


def test_two_folders_are_scored(gen, fake_api, tmp_path):
    words = ["--real", "a", "--synthetic", "b", "--size", "16,24,32", "--out", tmp_path / "s.json", "--json"]
    result = gen("evaluate", *words)
    assert json.loads(result.stdout)["results"] == {}
    ((name, args, kwargs),) = fake_api.calls
    assert name == "evaluate_folders" and args == (Path("a"), Path("b"))
    assert kwargs["size"] == (16, 24, 32) and kwargs["out"] == tmp_path / "s.json"


def test_plugins_show_lists_settings_with_defaults(gen):
    (found,) = json.loads(gen("plugins", "show", "dpm++2m", "--json").stdout)
    assert found["kind"] == "sampler" and found["package"].startswith("gen-imaging ")
    (prior,) = json.loads(gen("plugins", "show", "prior.ddpm3d", "--json").stdout)
    settings = {row["setting"]: row["default"] for row in prior["settings"]}
    assert settings["base"] == 512 and settings["multipliers"] == [1, 2, 4] and settings["fit.batch"] > 0
    assert "multipliers" in gen("plugins", "show", "ddpm3d").stdout
    assert "did you mean 'ddpm3d'" in gen("plugins", "show", "ddpm3").stderr


def test_plugins_list_can_be_narrowed(gen):
    rows = json.loads(gen("plugins", "list", "--kind", "sampler", "--json").stdout)
    assert {r["kind"] for r in rows} == {"sampler"} and len(rows) >= 3
    assert gen("plugins", "list", "--kind", "samplers").exit_code == 2


def test_recipes_list_and_show(gen):
    rows = {r["recipe"]: r for r in json.loads(gen("recipes", "list", "--json").stdout)}
    assert rows["quickstart"]["about"].startswith("Phantom retinas") and rows["quickstart"]["about"].endswith(".")
    assert gen("recipes", "show", "tiny").stdout == Path(rows["tiny"]["file"]).read_text()
    resolved = gen("recipes", "show", "tiny", "--resolved", "--set", "seed=5").stdout
    assert "seed = 5" in resolved and "[prior.fit]" in resolved
    assert json.loads(gen("recipes", "show", "tiny", "--json").stdout)["gen"] == 1


def test_recipes_validate_tells_every_mistake_of_every_recipe(gen, tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text('gen = 1\nbase = "tiny"\n[sample]\nnn = 3\nbatch = 0\n')
    result = gen("recipes", "validate", "tiny", bad)
    assert result.exit_code == 2 and "tiny.toml: valid" in result.stdout and result.stderr.count("bad.toml:") == 2
    rows = json.loads(gen("recipes", "validate", "tiny", bad, "--json").stdout)
    assert [r["valid"] for r in rows] == [True, False] and len(rows[1]["problems"]) == 2


def test_recipes_schema_is_json(gen):
    schema = json.loads(gen("recipes", "schema").stdout)
    assert schema["title"] and "volume" in schema["properties"]


def test_inspect_tells_a_file_in_the_agreed_terms(gen, tmp_path):
    cube = np.random.default_rng(0).uniform(0, 1, (5, 6, 7)).astype(np.float32)
    np.save(tmp_path / "cube.npy", cube)
    found = json.loads(gen("data", "inspect", tmp_path / "cube.npy", "--json").stdout)
    assert {"shape", "axes", "wavelength_nm", "min", "max", "mean", "sha_f32", "warnings"} <= found.keys()
    assert found["shape"] == [5, 6, 7] and found["max"] == pytest.approx(float(cube.max()))
    assert "sha_f32" in gen("data", "inspect", tmp_path / "cube.npy").stdout


def test_inspect_tells_a_recipe_s_data_set(gen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = gen("data", "inspect", "tiny", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["dataset"] == "retina-phantom" and found["splits"]["train"] > found["splits"]["val"] > 0
    assert len(found["wavelength_nm"]) == found["shape"][1] and found["min"] < found["mean"] < found["max"]


def test_runs_list_and_verify(gen, tmp_path):
    assert "no runs in" in gen("runs", "list", tmp_path).stdout
    assert json.loads(gen("runs", "list", tmp_path, "--json").stdout) == []
    step = tmp_path / "a" / "steps" / "prepare"
    step.mkdir(parents=True)
    (tmp_path / "a" / "recipe.lock.toml").write_text("gen = 1\n")
    (step / "done.json").write_text('{"files": {"prepared.json": {"sha256": "0", "bytes": 1}}}')
    assert json.loads(gen("runs", "list", tmp_path, "--json").stdout)[0]["done"] == ["prepare"]
    result = gen("runs", "verify", tmp_path / "a")
    assert result.exit_code == 5 and "prepared.json: missing" in result.stderr
    (step / "done.json").write_text('{"files": {}}')
    assert json.loads(gen("runs", "verify", tmp_path / "a", "--json").stdout)["whole"] is True


def test_doctor_finds_what_is_there_and_what_is_not(gen, monkeypatch):
    result = gen("doctor", "--json")
    rows = {r["check"]: r for r in json.loads(result.stdout)}
    assert result.exit_code == 0 and rows["torch"]["status"] == "ok" and rows["plugins"]["status"] == "ok"
    assert {"python", "cores", "memory", "disk", "compiler", "faiss", "h5py"} <= rows.keys()
    from gen_cli.commands import doctor

    monkeypatch.setattr(doctor, "NEEDED", (*doctor.NEEDED, "no-such-package"))
    result = gen("doctor")
    assert result.exit_code == 3 and "pip install no-such-package" in result.stdout
