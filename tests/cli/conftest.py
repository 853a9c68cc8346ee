"""A runner in the process, and a run interface that does nothing but tell what it was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from gen_cli.main import app


@pytest.fixture
def gen():
    """gen("run", "tiny") -> typer's result with exit_code, stdout, stderr."""
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words], prog_name="gen")


@pytest.fixture
def fake_api(monkeypatch, tmp_path):
    """Replaces the functions of `gen_core.run` that commands call; `.calls` holds (name, positional,
    keywords); `.error` is raised."""
    from gen_core.run import api, score_folders
    from gen_core.run.samples import more

    class Fake:
        calls: list[tuple[str, tuple, dict[str, Any]]] = []
        error: BaseException | None = None
        plan: dict[str, Any] = {}

    fake = Fake()
    fake.calls = []

    def stand_in(name, answer):
        def call(*args, **kwargs):
            fake.calls.append((name, args, kwargs))
            if fake.error is not None:
                raise fake.error
            return answer()

        return call

    (tmp_path / "metrics.json").write_text(
        '{"results": {"fid": {"values": [{"name": "fid", "value": 6.086, "source": "synthetic", "against": "val",'
        ' "low": 5.5, "high": 6.6, "floor": 1.69, "n": 40, "flag": "N is small"}]}}}'
    )
    done = lambda: api.RunOutcome(
        tmp_path, [{"step": "prepare", "state": "done", "seconds": 1.5}], None, tmp_path / "metrics.json"
    )
    monkeypatch.setattr(api, "run", stand_in("run", done))
    monkeypatch.setattr(api, "plan", stand_in("plan", lambda: fake.plan))
    monkeypatch.setattr(api, "run_single", stand_in("run_single", done))
    made = lambda: {"folder": "there", "samples": 7, "shard": "1of1"}
    monkeypatch.setattr(more, "sample_more", stand_in("sample_more", made))
    scored = lambda: {"real": "a", "synthetic": "b", "results": {}, "timed": {}}
    monkeypatch.setattr(score_folders, "evaluate_folders", stand_in("evaluate_folders", scored))
    return fake
