"""Commands that read what a run has written of itself: a record that is damaged is one line, or counts as none."""

from __future__ import annotations

import shutil

import pytest

RECORDS = [
    "metrics.json",
    "cost.json",
    "events.jsonl",
    "machine.json",
    "recipe.lock.toml",
    "samples/manifest.json",
    "steps/prepare/prepared.json",
    "steps/prepare/started.json",
    "steps/prepare/done.json",
    "steps/fit.codec/weights.json",
    "steps/fit.prior/cost.json",
    "steps/encode/calibration.json",
    "steps/sample/done.json",
    "steps/evaluate/metrics.json",
    "steps/evaluate/done.json",
]
BECOMES = {
    "empty": lambda data: b"",
    "a list": lambda data: b"[]",
    "another object": lambda data: b'{"a": "x", "results": 3, "samples": 3, "steps": [1]}',
    "nested without end": lambda data: b"[" * 100_000,
    "cut to a half": lambda data: data[: len(data) // 2],
    "no text": lambda data: bytes(range(256)),
}
COMMANDS = [
    ("compare", "run", "sound"),
    ("runs", "list", "."),
    ("runs", "verify", "run"),
    ("sample", "--run", "run", "-n", "1", "--dry-run"),
    ("evaluate", "--run", "run"),
    ("report", "--run", "run"),
]
BY_DEFAULT = (("metrics.json", "another object"), ("cost.json", "nested without end"), ("recipe.lock.toml", "no text"))
CASES = [
    pytest.param(file, kind, marks=() if (file, kind) in BY_DEFAULT else pytest.mark.slow)
    for file in RECORDS
    for kind in BECOMES
]


@pytest.mark.parametrize("file, kind", CASES)
def test_a_damaged_record_is_one_line_for_all_that_read_it(zygote, whole, tmp_path, file, kind):
    for command in COMMANDS:
        for name in ("run", "sound"):
            shutil.copytree(whole.folder / "run", tmp_path / name, dirs_exist_ok=True)
        path = tmp_path / "run" / file
        path.write_bytes(BECOMES[kind](path.read_bytes()))
        ended = zygote.run(*command, folder=tmp_path)
        told = f"{command}: {ended.code}: {ended.text[-600:]}"
        assert ended.code in (0, 2, 3, 4, 5), told
        assert "Traceback" not in ended.text and "unexpected" not in ended.text, told
        assert len(ended.last) < 2000 and ended.last.isprintable(), told
