"""What `gen sweep` and `gen compare` ask of core, what they print, how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gen_cli.launchers.words import run_words
from gen_core.run.api import RunRequest


@pytest.fixture
def sweeps(monkeypatch, tmp_path):
    """Replaces `sweep` and `plan_sweep`; `.asked` holds the requests, `.children` is what comes out."""
    from gen_core.run.studies import sweep as real

    class Fake:
        asked: list[tuple] = []
        children: list[dict] = []

    fake = Fake()
    fake.asked = []
    fake.children = [{"name": "base8", "settings": {"prior.base": 8}, "state": "done", "code": 0}]

    def sweep(request, words, progress):
        fake.asked.append((request, words, progress))
        return real.SweepOutcome(tmp_path, fake.children)

    monkeypatch.setattr(real, "sweep", sweep)
    return fake


def test_sweep_hands_every_option_on(gen, sweeps, tmp_path):
    words = "--grid codec.codes=4,8 --grid prior.base=8 --seeds 0,2 --child base8 --max-parallel 3 --until sample"
    result = gen(
        "sweep", "tiny", *words.split(), "--set", "sample.n=3", "--out", tmp_path, "--device", "cpu", "--smoke"
    )
    assert result.exit_code == 0, result.stderr
    ((request, _, progress),) = sweeps.asked
    assert request.grid == ("codec.codes=4,8", "prior.base=8") and request.seeds == (0, 2)
    assert (request.only, request.max_parallel, request.until_step) == (("base8",), 3, "sample")
    assert (request.overrides, request.out, request.device, request.smoke) == (("sample.n=3",), tmp_path, "cpu", True)
    assert hasattr(progress, "say") and "prior.base = 8" in result.stdout
    assert f"gen compare {tmp_path}" in result.stdout


def test_a_search_names_its_aim(gen, sweeps):
    assert gen("sweep", "tiny", "--optuna", "5", "--maximize", "psnr").exit_code == 0
    ((request, _, progress),) = sweeps.asked
    assert (request.trials, request.aim, request.maximize) == (5, "psnr", True)
    assert progress is None  # one child at a time draws on the terminal itself
    assert gen("sweep", "tiny", "--minimize", "a", "--maximize", "b").exit_code == 2
    assert gen("sweep", "tiny", "--optuna", "5", "--grid", "a.b=1").exit_code == 2


def test_a_failed_child_ends_the_command_with_5_and_its_name(gen, sweeps):
    sweeps.children = [
        *sweeps.children,
        {"name": "base9", "settings": {}, "state": "failed", "code": 4, "why": "trace\nno such file"},
    ]
    result = gen("sweep", "tiny", "--grid", "prior.base=8,9", "--json")
    assert result.exit_code == 5 and "1 child failed:\n  base9: no such file" in result.stderr
    assert json.loads(result.stdout)["children"][1]["state"] == "failed"


def test_the_dry_run_of_a_sweep_prints_children_and_what_they_take(gen, tmp_path):
    words = ["sweep", "tiny", "--grid", "prior.base=8,16", "--dry-run", "--out", tmp_path / "s"]
    text = gen(*words).stdout
    assert "2 children" in text and "prior.base = 16" in text and "nothing is done" in text
    rows = json.loads(gen(*words, "--json").stdout)["children"]
    assert rows[1]["shared"]["fit.codec"] == "base8" and rows[1]["computed"][0] == "fit.prior"
    assert not (tmp_path / "s").exists()


def test_a_child_is_started_as_the_command_that_a_user_would_type():
    request = RunRequest(
        "r.toml", ("a.b=1", 'name="x"'), Path("runs/s/x"), until_step="sample", device="cpu", smoke=True
    )
    python, *words = run_words(request)
    assert words == [
        "-m", "gen_cli", "run", "r.toml", "--out", "runs/s/x", "--set", "a.b=1", "--set", 'name="x"',
        "--device", "cpu", "--until", "sample", "--smoke",
    ]  # fmt: skip


@pytest.fixture
def two_runs(tmp_path):
    for name, fid in (("a", 1.5), ("b", 2.5)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.lock.toml").write_text(f'gen = 1\nname = "{name}"\nseed = {int(fid)}\n')
        values = [
            {"name": metric, "value": fid, "source": "synthetic", "against": "val", "n": 5, "better": "lower"}
            for metric in ("fid", "kid")
        ]
        results = {v["name"]: {"protocol": {"n": 5}, "values": [v]} for v in values}
        (folder / "metrics.json").write_text(json.dumps({"results": results}))
    return tmp_path / "a", tmp_path / "b"


def test_compare_prints_every_form(gen, two_runs):
    assert "2.5" in gen("compare", *two_runs).stdout
    assert gen("compare", *two_runs, "--md").stdout.startswith("| run |")
    assert gen("compare", *two_runs, "--csv", "--metric", "fid").stdout.startswith("run,seed,fid:fid:synthetic:val,")
    assert r"\begin{tabular}" in gen("compare", *two_runs, "--latex").stdout
    data = json.loads(gen("compare", *two_runs, "--json", "--pareto", "fid,kid").stdout)
    assert [row["front"] for row in data["runs"]] == [True, False] and data["differing"] == ["seed"]


def test_compare_writes_by_the_ending_of_the_name(gen, two_runs, tmp_path):
    for name in ("t.md", "t.csv", "t.tex", "t.json", "t.png"):
        pareto = ["--pareto", "fid,kid"] if name == "t.png" else []
        assert gen("compare", *two_runs, "--out", tmp_path / name, *pareto).exit_code == 0
        assert (tmp_path / name).stat().st_size > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--md", "--csv"], "one form at a time"),
        (["--out", "x.doc"], "expected a name that ends in"),
        (["--out", "x.png"], "needs --pareto"),
        (["--pareto", "fid"], "expected two scores"),
        (["--metric", "fud"], "did you mean 'fid'"),
    ],
)
def test_compare_refuses_what_it_cannot_do(gen, two_runs, words, message):
    result = gen("compare", *two_runs, *words)
    assert result.exit_code == 2 and message in result.stderr


def test_compare_refuses_mixed_protocols_with_exit_2(gen, two_runs):
    file = two_runs[1] / "metrics.json"
    file.write_text(file.read_text().replace('"protocol": {"n": 5}', '"protocol": {"n": 6}', 1))
    result = gen("compare", *two_runs)
    assert result.exit_code == 2 and "fid: n is 5 in a, 6 in b" in result.stderr and "--metric kid" in result.stderr
    assert gen("compare", *two_runs, "--metric", "kid").exit_code == 0
