"""Which scores may stand beside each other, and in which settings runs differ.

Only scores that were made the same way: same definition, same extractor with the same weights, same number of volumes.
Anything else is refused, naming both runs and what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gen_core.errors import UsageError
from gen_core.run.fingerprint import HARMLESS_FIT, canonical
from gen_core.run.studies.scores import Run, flat

FOUND = ("pixels", "threshold", "typical_disc_area_pixels", "measured")
"""Keys of a protocol that a metric found rather than chose: they may differ. New metrics put theirs in "measured"."""
NO_SETTING = ("name", "demonstration", "device", "sweep", "gen")
ABSENT = "(none)"


def refuse_mixed(runs: Sequence[Run], metrics: Sequence[str], chosen: bool = False) -> None:
    """Raises: UsageError naming, for each metric that is not comparable, two runs and what differs."""
    lines, fine = [], []
    for metric in metrics:
        have = [run for run in runs if metric in run.protocols]
        line = next(filter(None, (difference(metric, have[0], run) for run in have[1:])), "")
        lines.append(f"{metric}: {line}") if line else fine.append(metric)
    if lines:
        hint = f"\nCompare what can be: {' '.join(f'--metric {name}' for name in fine)}" if fine and not chosen else ""
        raise UsageError("not comparable:\n  " + "\n  ".join(lines) + hint)


def difference(metric: str, one: Run, other: Run) -> str:
    """In what the scores of a metric were made differently, or "" where they can stand side by side."""
    ours, theirs = (dict(flat({k: v for k, v in r.protocols[metric].items() if k not in FOUND})) for r in (one, other))
    for key in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(key, ABSENT), theirs.get(key, ABSENT)
        if canonical(a) != canonical(b):
            return f"{key} is {_brief(a)} in {one.name}, {_brief(b)} in {other.name}"
    for ref, score in one.scores.items():
        twin = other.scores.get(ref)
        if score.metric == metric and twin is not None and twin.n != score.n:
            return f"{ref} is of N = {score.n} in {one.name}, of N = {twin.n} in {other.name}"
    return ""


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else canonical(value)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-18:]}"


def differing(runs: Sequence[Run]) -> list[str]:
    """Settings that are not the same in all runs. Where another component is used, its name alone says so."""
    keys = [k for k in dict.fromkeys(k for run in runs for k in run.settings) if not _ignored(k)]
    get = lambda run, key: canonical(run.settings.get(key, ABSENT))
    found = [key for key in keys if len({get(run, key) for run in runs}) > 1]
    changed = [key.removesuffix("use") for key in found if key.endswith(".use")]
    somewhere = lambda key: any(key not in run.settings for run in runs)
    return [k for k in found if not (somewhere(k) and any(k.startswith(c) and k != f"{c}use" for c in changed))]


def _ignored(key: str) -> bool:
    return key.partition(".")[0] in NO_SETTING or key.rpartition(".")[2] in HARMLESS_FIT
