"""The command as a process: quick, light, quiet when its reader leaves, and `python -m gen_cli` is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "numpy", "scipy", "matplotlib", "rich", "jinja2", "safetensors", "einops")


def python(*words: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, **more)


@pytest.mark.parametrize("words", [["--help"], ["plugins", "list"], ["run", "--help"], ["recipes", "list"]])
def test_listings_and_help_import_nothing_heavy(words):
    code = f"""
import sys
sys.argv = ["gen", *{words!r}]
from gen_cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("HEAVY", sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_how_long_help_and_plugin_list_take(capsys):
    def quickest(*words: str) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            assert python(*words).returncode == 0
            times.append(time.perf_counter() - start)
        return min(times)

    bare = quickest("-c", "pass")
    over = {words: quickest("-m", "gen_cli", *words) - bare for words in (("--help",), ("plugins", "list"))}
    with capsys.disabled():
        print("".join(f"\ngen {' '.join(w)}: {s:.3f} s over a bare python" for w, s in over.items()))
    assert set(over) == {
        ("--help",),
        ("plugins", "list"),
    }  # a busy machine must not fail the suite: printed only


def test_both_doors_are_the_same_command():
    first, second = python("-m", "gen_cli", "--version"), python("-m", "gen_cli.main", "--version")
    assert first.stdout == second.stdout and first.stdout.startswith("gen ")


def test_a_reader_that_leaves_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "gen_cli", "plugins", "list", "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.returncode in (0, 1)


def test_every_command_has_help(gen):
    groups = {"plugins": ["list", "show"], "recipes": ["list", "show", "validate", "schema"]}
    groups |= {"data": ["inspect"], "runs": ["list", "verify"]}
    commands = [[c] for c in ("run", "train", "sample", "evaluate", "report", "doctor")]
    commands += [[g, c] for g, names in groups.items() for c in names]
    for words in commands:
        result = gen(*words, "--help")
        assert result.exit_code == 0 and "--debug" in result.stdout, words


def test_run_has_the_options_of_the_contract(gen):
    text = gen("run", "--help").stdout
    options = "set out resume fork from until only dry-run smoke seed device offline json debug"
    assert [o for o in options.split() if f"--{o}" not in text] == []


def test_json_goes_to_stdout_alone(gen):
    result = gen("plugins", "list", "--json")
    rows = json.loads(result.stdout)
    assert {"kind": "report", "name": "html"}.items() <= rows[-1].items() or any(r["name"] == "html" for r in rows)
    assert result.stderr == ""
