"""Plugins that break, end, hang, print or change what is everyone's: each is a row with its cause, the others work."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CAUSES = {
    "raises": ("broken", "RuntimeError: no licence"),
    "exits": ("broken", "ends the program (SystemExit: 0)"),
    "leaves": ("broken", "ends the process when it is loaded (exit status 0)"),
    "crashes": ("broken", "crashes when it is loaded (SIGSEGV)"),
    "hangs": ("broken", "is not loaded after 6 s"),
    "talks": ("warning", "prints when it is loaded"),
    "floods": ("warning", "prints when it is loaded"),
    "elsewhere": ("broken", "made for plugin interface 99, this gen has 1"),
    "not-strings": ("broken", 'options must be a string "package.module:name"'),
    "bad-options": ("warning", "its options, gen_bad_options:Plain, are no attrs class"),
    "no-build": ("warning", "No module named 'nowhere_at_all'"),
    "no-hook": ("warning", "unknown hook 'register_codec'; did you mean 'register_codecs'?"),
    "changes": ("warning", "changes the working directory and the handler of SIGTERM and environment variables"),
    "greedy": ("broken", "MemoryError"),
}


@pytest.fixture(scope="module")
def site(strangers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for name, code in strangers.HOSTILE.items():
        strangers.install(folder, name, code)
    return folder


@pytest.fixture(scope="module")
def listed(site, command):
    out = command(site, "plugins", "list", "--json")
    assert out.returncode == 0, out.stderr
    return out


@pytest.fixture(scope="module")
def rows(listed):
    return json.loads(listed.stdout)  # whatever they print does not get here


@pytest.mark.parametrize("name", CAUSES)
def test_a_hostile_plugin_is_a_row_with_its_cause(rows, name):
    notes = [row for row in rows if row["kind"] == "plugin" and row["name"] == name]
    status, cause = CAUSES[name]
    assert any(row["status"] == status and cause in row["problem"] for row in notes), notes
    assert all("\n" not in row["problem"] and len(row["problem"]) < 400 for row in notes)


def test_what_they_print_reaches_nobody(listed):
    told = [line for line in listed.stdout.splitlines() if "hello from" in line]
    assert told and all(line.startswith('  "problem": "prints when it is loaded: ') for line in told)
    assert listed.stderr == ""


def test_the_others_are_there(rows):
    names = {(row["kind"], row["name"]): row["status"] for row in rows if row["kind"] != "plugin"}
    for name in ("good", "lingering", "talking", "flooding", "changing"):
        assert names["codec", name] == "ok"
    assert names["prior", "ddpm3d"] == "ok" and names["dataset", "retina-phantom"] == "ok"
    for absent in ("elsewhere", "odd", "greedy"):
        assert ("codec", absent) not in names


def test_a_built_in_name_is_not_taken_over(rows, site, command):
    both = [row for row in rows if (row["kind"], row["name"]) == ("codec", "vqgan")]
    assert {row["distribution"]: row["status"] for row in both} == {
        "gen-imaging": "conflict",
        "gen-shadows": "conflict",
    }
    recipe = ROOT / "recipes" / "tiny.toml"
    out = command(site, "recipes", "validate", recipe, GEN_PLUGINS="gen-shadows,gen-good")
    assert out.returncode == 2
    said = out.stdout + out.stderr
    assert "codec 'vqgan' is offered twice" in said and "gen-shadows 1.0 (gen_shadows)" in said
    assert "GEN_PLUGINS" in said and "Traceback" not in said


def test_no_stranger_is_imported_where_gen_works_and_none_at_all_when_switched_off(strangers, command, tmp_path):
    strangers.install(tmp_path, "good", strangers.HOSTILE["good"])
    code = 'register_codecs = offer("codec", "telling", summary=str(os.getppid()))'
    strangers.install(tmp_path, "tells", code)
    out = command(tmp_path, "plugins", "list", "--json")
    gen = next(int(row["summary"]) for row in json.loads(out.stdout) if row["name"] == "telling")
    loaded = strangers.loaded_by(tmp_path)
    assert set(loaded) == {"good", "tells"} and all(gen not in processes for processes in loaded.values())
    for path in tmp_path.glob("*.loaded"):
        path.unlink()
    for value in ("off", "", "gen-else"):
        out = command(tmp_path, "plugins", "list", GEN_PLUGINS=value)
        assert out.returncode == 0 and "switched off: GEN_PLUGINS does not name gen-good" in out.stdout
    assert strangers.loaded_by(tmp_path) == {}
    out = command(tmp_path, "plugins", "list", GEN_PLUGINS="gen-good:good, gen-tells:other")
    assert set(strangers.loaded_by(tmp_path)) == {"good"}
    assert "did you mean 'gen-tells:tells'?" in out.stdout
    assert "plugins let in: gen's own and gen-good:good, gen-tells:other" in out.stdout


def test_the_doctor_tells_who_is_let_in_and_who_is_not(strangers, command, tmp_path):
    strangers.install(tmp_path, "good", strangers.HOSTILE["good"])
    strangers.install(tmp_path, "raises", strangers.HOSTILE["raises"])
    out = command(tmp_path, "doctor", "--json", GEN_PLUGINS="gen-raises")
    found = {row["check"]: (row["status"], row["found"]) for row in json.loads(out.stdout)}
    assert found["plugins let in"] == ("ok", 'gen\'s own and gen-raises (GEN_PLUGINS is "gen-raises")')
    assert found["plugin good"][0] == "note" and "does not name gen-good" in found["plugin good"][1]
    assert found["plugin"][0] == "problem" and "RuntimeError: no licence" in found["plugin"][1]


def test_a_run_goes_on_beside_them(site, command, tmp_path):
    allowed = "gen-raises,gen-leaves,gen-talks,gen-changes,gen-good"
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        'gen = 1\n[volume]\nsize = [8, 16, 16]\n[dataset]\nuse = "retina-phantom"\nsubjects = 4\n'
        '[codec]\nuse = "absent"\n'
    )
    words = ("run", recipe, "--out", tmp_path / "run", "--json", "--until", "prepare")
    out = command(site, "recipes", "validate", recipe, GEN_PLUGINS=allowed)
    assert out.returncode == 2
    said = out.stdout + out.stderr
    assert "no codec 'absent'" in said and " plugins not loaded, see `gen plugins list`" in said
    out = command(site, *words, "--set", "codec.use=identity", GEN_PLUGINS=allowed, cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout)["steps"][0]["state"] == "done"


def test_nothing_that_they_started_is_left(listed):
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert "sleep 4321" not in running  # `lingers` started it
