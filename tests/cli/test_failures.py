"""Exit codes and messages: one line for a user error, a hint for our own, a trace only with --debug."""

from __future__ import annotations

import pytest

from gen_core.errors import DataError, MissingError, RecipeError, RunError, Stopped, UsageError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no such step"), 2),
        (RecipeError("tiny.toml:3: [codec] with: no such key"), 2),
        (MissingError("codec 'vqgan' needs 'faiss'"), 3),
        (DataError("cube.npy: no wavelengths"), 4),
        (RunError("loss 'l1' is nan"), 5),
        (Stopped("stopped by SIGTERM; the same command goes on from here"), 75),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(gen, fake_api, error, code):
    fake_api.error = error
    result = gen("run", "tiny")
    assert result.exit_code == code
    assert result.stderr == f"{str(error) or 'interrupted'}\n"
    assert result.stdout == ""


def test_all_problems_of_a_recipe_are_printed_one_a_line(gen, fake_api):
    fake_api.error = RecipeError(["a.toml:3: first", "a.toml:9: second"])
    assert gen("run", "tiny").stderr == "a.toml:3: first\na.toml:9: second\n"


@pytest.mark.parametrize("error", [ZeroDivisionError("division\nby zero"), RuntimeError("shape")])
def test_an_unexpected_error_is_one_line_with_a_hint(gen, fake_api, error):
    fake_api.error = error
    result = gen("run", "tiny")
    assert result.exit_code == 5 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"unexpected {type(error).__name__}: ") and "--debug" in result.stderr


@pytest.mark.parametrize("words", [("run", "tiny", "--debug"), ("--debug", "run", "tiny")])
def test_debug_shows_the_trace_and_only_then(gen, fake_api, words):
    fake_api.error = DataError("cube.npy: damaged")
    shown = gen(*words)
    assert shown.exit_code == 4
    assert "Traceback" in shown.stderr and shown.stderr.endswith("cube.npy: damaged\n")
    assert "Traceback" not in gen("run", "tiny").stderr, "--debug of one command must not last"


def test_a_closed_pipe_ends_quietly(gen, fake_api):
    fake_api.error = BrokenPipeError()
    result = gen("run", "tiny")
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate",),
        ("run",),
        ("run", "tiny", "--resume", "perhaps"),
        ("run", "tiny", "--seed", "x"),
        ("sample", "--run", "there", "--shard", "3/2"),
        ("sample", "--run", "there", "-n", "0"),
        ("evaluate", "--real", "a", "--synthetic", "b", "--size", "16,224"),
        ("evaluate", "--real", "a"),
        ("evaluate", "--run", "a", "--real", "b"),
        ("data", "inspect", "a.npy", "--wavelengths-nm", "450,red"),
    ],
)
def test_a_wrong_command_line_ends_with_2(gen, fake_api, words):
    result = gen(*words)
    assert result.exit_code == 2 and result.stderr and "Traceback" not in result.stderr
    assert fake_api.calls == []


def test_real_errors_reach_the_user_too(gen, tmp_path):
    assert gen("run", "tinny").exit_code == 2
    assert "did you mean 'tiny'" in gen("run", "tinny").stderr
    bad = tmp_path / "bad.toml"
    bad.write_text('gen = 1\nbase = "tiny"\n[sample]\nnn = 3\n[volume]\nsize = [8, 16]\n')
    result = gen("run", bad)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 2 and all("bad.toml:" in line for line in lines)
    assert gen("plugins", "show", "vqvea").exit_code == 3
    assert gen("data", "inspect", tmp_path / "none.npy").exit_code == 4
    assert gen("runs", "verify", tmp_path).exit_code == 2
