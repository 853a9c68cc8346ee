"""What every Frechet metric gives of its sources: distance, interval, floor, flag, and the limit of many volumes."""

from __future__ import annotations

from typing import Any

from gen_core.metric import Value
from gen_metrics.infinity import at_infinity, too_few_for_limit
from gen_metrics.intervals import jackknife
from gen_metrics.sides import Side, refusal, small_flag

SCORED = ("train", "reconstruction", "synthetic")
INTERVAL = "95 %, delete-a-group jackknife over volumes"
FLOOR = "training against validation, with as many training volumes as the scored source has"


def frechet_values(
    name: str, sides: dict[str, Side], groups: int, limit: bool, seed: int
) -> tuple[list[Value], dict[str, Any], dict[str, str]]:
    """Values of each source against validation, curves over N by source, and why what is lacking is lacking.

    sides: by source, "val" among them. groups: of the jackknife. limit: whether to give "NAME infinity" too.
    """
    values: list[Value] = []
    curves: dict[str, Any] = {}
    refused: dict[str, str] = {}
    val, train = sides["val"], sides.get("train")
    for source in SCORED:
        if source not in sides:
            continue
        side = sides[source]
        why = refusal({source: side, "validation": val})
        if why:
            refused[source] = why
            continue
        n = sum(side.volumes)
        value = side.distance(val)
        low, high = _interval(side, val, value, groups)
        floor = None
        if source != "train" and train is not None and not refusal({"train": train}):
            floor = train.first(max(2, n)).distance(val)
        flag = small_flag({source: n, "validation": sum(val.volumes)}, val.dim)
        how = INTERVAL if low is not None else ""
        values.append(Value(name, value, source, "val", low, high, how, floor, n, "lower", flag))
        if not limit:
            continue
        why = too_few_for_limit(side, val)
        if why:
            refused[f"{source}, infinity"] = why
            continue
        curves[source] = at_infinity(side, val, seed)
    floor = curves.get("train", {}).get("limit")
    for source, curve in curves.items():
        at, low, high = curve["limit"], curve["low"], curve["high"]
        beneath = None if source == "train" else floor
        n = sum(sides[source].volumes)
        values.append(Value(f"{name} infinity", at, source, "val", low, high, INTERVAL, beneath, n, "lower"))
    return values, curves, refused


def _interval(a: Side, b: Side, value: float, groups: int) -> tuple[float | None, float | None]:
    """Leaving out groups of either side; (None, None) under three groups."""
    folds = [min(groups, len(side.volumes)) for side in (a, b)]
    if min(folds) < 3:
        return None, None
    keep = lambda side, n, f: [u for u in range(len(side.volumes)) if u % n != f]
    left = [
        [a.distance(b, keep(a, folds[0], f), None) for f in range(folds[0])],
        [a.distance(b, None, keep(b, folds[1], f)) for f in range(folds[1])],
    ]
    return jackknife(left, value)
