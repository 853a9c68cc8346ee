"""Strangers' plugins, installed for real by pip into a folder of their own: a good one, a broken one, two owners."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE / "example_plugin"
PAGE = HERE.parent / "docs" / "plugins.md"

LIST = """
import json, sys
from gen_core.registry import Registry
json.dump({"rows": Registry.load().rows(), "torch": "torch" in sys.modules}, sys.stdout)
"""
ASK = """
import sys
from gen_core.errors import GenError
from gen_core.registry import Registry
try:
    component = Registry.load().get(*sys.argv[1:])
    print("from", component.distribution, component.options_class().__name__)
except GenError as error:
    print(error.exit_code, error)
"""


@pytest.fixture(scope="session")
def install(tmp_path_factory):
    """install(name) -> the folder that pip put tests/<name>_plugin into."""
    done: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in done:
            target = tmp_path_factory.mktemp(name)
            options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    *options,
                    "--target",
                    target,
                    HERE / f"{name}_plugin",
                ],
                check=True,
                capture_output=True,
            )
            done[name] = target
        return done[name]

    return make


def run(folders: list[Path], *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh python with `folders` on its path."""
    env = {k: v for k, v in os.environ.items() if k != "GEN_PLUGINS"}
    inherited = [p for p in [os.environ.get("PYTHONPATH")] if p]
    env |= {"PYTHONPATH": os.pathsep.join([*map(str, folders), *inherited]), **environment}
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=env)


def listing(folders: list[Path], **environment: str) -> list[dict]:
    out = run(folders, "-c", LIST, **environment)
    assert out.returncode == 0, out.stderr
    data = json.loads(out.stdout)  # whatever a plugin prints does not get here
    assert data["torch"] is False
    return data["rows"]


def test_an_installed_plugin_is_listed_with_distribution_and_version(install):
    rows = {(r["kind"], r["name"]): r for r in listing([install("example")]) if r["distribution"] == "gen-example"}
    assert set(rows) == {("dataset", "rings"), ("codec", "patch-linear"), ("metric", "mean-error")}
    assert {r["distribution_version"] for r in rows.values()} == {"0.3.0"}
    assert {r["status"] for r in rows.values()} == {"ok"}


def test_the_command_lists_it_too(install):
    folders = [install("example"), install("broken")]
    out = run(folders, "-m", "gen_cli.main", "plugins", "list", "--json")
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout) == listing(folders)
    out = run(folders, "-m", "gen_cli.main", "plugins", "list")
    assert "patch-linear" in out.stdout and "gen-example 0.3.0" in out.stdout
    assert "no licence found" in out.stdout and "also offered by gen-broken 9.9.0" in out.stdout


def test_its_recipe_runs_from_the_data_to_the_score(install, tmp_path):
    arguments = ("run", EXAMPLE / "rings.toml", "--set", "codec.fit.steps=25", "--out", tmp_path / "run")
    out = run([install("example")], "-m", "gen_cli.main", *arguments, OMP_NUM_THREADS="1")
    assert out.returncode == 0, out.stdout + out.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    (value,) = metrics["results"]["mean-error"]["values"]
    # an untrained codec gives about the mean absolute value of the data, .8; training must beat it
    assert 0 < value["value"] < 0.4 and value["n"] == 10
    assert 'use = "patch-linear"' in (tmp_path / "run" / "recipe.lock.toml").read_text()


def test_the_plugin_keeps_every_contract_and_its_recipe_resolves(install):
    out = run(
        [install("example")],
        *(
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--noconftest",
            "-c",
            os.devnull,
            "--rootdir",
            EXAMPLE,
        ),
        EXAMPLE / "tests",
        OMP_NUM_THREADS="1",
    )
    assert out.returncode == 0, out.stdout + out.stderr
    assert "3 passed" in out.stdout


def test_its_codec_goes_into_a_recipe_beside_our_parts(install, tmp_path):
    recipe = tmp_path / "mixed.toml"
    recipe.write_text(
        'gen = 1\n[dataset]\nuse = "rings"\n[codec]\nuse = "patch-linear"\nchannels = 3\n'
        '[prior]\nuse = "ddpm3d"\n[sampler]\nuse = "ddim"\n[metrics.mean-error]\n[metrics.psnr]\n'
    )
    code = f"from gen_core.recipe import load_recipe; print(list(load_recipe({str(recipe)!r}).tables))"
    out = run([install("example")], "-c", code)
    assert out.returncode == 0, out.stderr
    assert "'metrics.mean-error', 'metrics.psnr'" in out.stdout


def test_broken_plugins_are_rows_with_their_causes_and_break_nothing(install):
    rows = listing([install("broken"), install("example")])
    notes = {r["name"]: r for r in rows if r["kind"] == "plugin"}
    assert {name: row["status"] for name, row in notes.items()} == {
        "raises": "broken",
        "exits": "broken",
        "absent": "broken",
        "elsewhere": "broken",
        "prints": "warning",
    }
    assert notes["raises"]["problem"] == "RuntimeError: no licence found"
    assert "SystemExit: 7" in notes["exits"]["problem"]
    assert "No module named 'gen_broken.absent'" in notes["absent"]["problem"]
    assert "made for plugin interface 99" in notes["elsewhere"]["problem"]
    problems = [r["problem"] for r in rows if r["name"] == "prints"]
    assert any("Welcome to gen-broken!" in problem for problem in problems)
    assert any("'talkative'" in p and "No module named 'gen_broken.options'" in p for p in problems)
    ours = [r for r in rows if r["distribution"] in ("gen-imaging", "gen-example") and r["name"] != "vqvae"]
    assert len(ours) > 15 and {r["status"] for r in ours} == {"ok"}


def test_two_owners_of_a_name_are_refused_naming_both_and_the_rest_works(install):
    folders = [install("broken"), install("example")]
    rows = [r for r in listing(folders) if (r["kind"], r["name"]) == ("codec", "vqvae")]
    assert {r["distribution"]: r["status"] for r in rows} == {
        "gen-imaging": "conflict",
        "gen-broken": "conflict",
    }
    out = run(folders, "-c", ASK, "codec", "vqvae").stdout
    assert out.startswith("2 codec 'vqvae' is offered twice")
    assert "gen-broken 9.9.0 (gen_broken.prints)" in out and "(gen_codecs.plugin)" in out
    assert run(folders, "-c", ASK, "codec", "patch-linear").stdout == "from gen-example PatchLinear\n"
    assert run(folders, "-c", ASK, "codec", "vqgan").stdout == "from gen-imaging Vqgan\n"


@pytest.mark.parametrize(("value", "strangers"), [("off", set()), ("gen-example", {"gen-example"})])
def test_an_allow_list_shuts_strangers_out(install, value, strangers):
    folders = [install("broken"), install("example")]
    rows = listing(folders, GEN_PLUGINS=value)
    assert {r["distribution"] for r in rows if r["kind"] != "plugin"} == {"gen-imaging"} | strangers
    assert {r["status"] for r in rows if r["kind"] == "plugin"} == {"off"}
    assert run(folders, "-c", ASK, "codec", "vqvae", GEN_PLUGINS=value).stdout == "from gen-imaging Vqvae\n"


def test_a_component_whose_module_is_absent_is_missing_by_name(install):
    out = run([install("broken")], "-c", ASK, "codec", "talkative").stdout
    assert out.startswith("3 codec 'talkative' of gen-broken 9.9.0 (gen_broken.prints) cannot be imported")


def blocks(page: str) -> dict[str, str]:
    """File name -> code of every block that is introduced as `file`:"""
    found = re.findall(r"^`([\w./]+)`[^\n]*:\n\n```\w*\n(.*?)^```", page, re.M | re.S)
    return {name: code.rstrip("\n") + "\n" for name, code in found}


def test_the_page_shows_the_example_as_it_is():
    shown = blocks(PAGE.read_text())
    files = {
        str(path.relative_to(EXAMPLE)): path.read_text()
        for path in sorted(EXAMPLE.rglob("*"))
        if path.suffix in (".py", ".toml") and path.name not in ("conftest.py", "__init__.py", "ruff.toml")
    }
    assert set(shown) == set(files)
    for name, code in shown.items():
        assert code == files[name], f"docs/plugins.md shows another {name} than tests/example_plugin"
