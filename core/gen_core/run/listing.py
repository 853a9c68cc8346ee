"""Runs on disk at a glance: which there are, how far they came, whether they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core.errors import UsageError
from gen_core.run.folder import LOCK_RECIPE, RunFolder, verify_step
from gen_core.run.request import RUNS
from gen_core.run.samples.outputs import verify_manifest


def list_runs(root: str | Path = RUNS) -> list[dict[str, Any]]:
    """A row for every run under `root`: name, recipe, steps done, seconds, folder."""
    rows = []
    for lock in sorted(Path(root).glob(f"*/{LOCK_RECIPE}")):
        folder = lock.parent
        done = sorted(p.parent.name for p in folder.glob("steps/*/done.json"))
        started = sorted(p.parent.name for p in folder.glob("steps/*/started.json"))
        cost = RunFolder(folder).cost()
        rows.append(
            {
                "run": folder.name,
                "done": done,
                "unfinished": [s for s in started if s not in done],
                "seconds": cost.get("total_seconds"),
                "report": str(folder / "report.html") if (folder / "report.html").exists() else None,
                "folder": str(folder),
            }
        )
    return rows


def verify_run(run_dir: str | Path) -> list[str]:
    """Problems of a run's finished steps and samples, one line each; empty when all is whole."""
    folder = Path(run_dir)
    if not (folder / LOCK_RECIPE).exists():
        raise UsageError(f"{run_dir}: no run here (no {LOCK_RECIPE})")
    problems = []
    for done in sorted(folder.glob("steps/*/done.json")):
        problems += verify_step(done.parent)
    return problems + verify_manifest(folder / "samples")
