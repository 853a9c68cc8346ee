"""The sections of docs/results.md that come from one run each: recovery rates, and usefulness for pre-training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECOVERY, UTILITY = "Which features lead back to the original?", "What are samples worth for pre-training?"
ABOUT_RECOVERY = """`gen run recipes/studies/recovery.toml`; published: annex A.3, MoCo ResNet-50 under L1 65 %,
the best of its spaces (pixels, random and ImageNet ResNets, MoCo). Share of altered training eyes whose original is
among the ten nearest of 512, 95 % interval:"""
ABOUT_UTILITY = """`gen run recipes/studies/utility.toml`. Area under the ROC curve of the label `deposits` on
validation eyes, 95 % interval (DeLong); `none`: the network as built, not pre-trained. Where an interval holds .5
nothing was told, and where that of a gain holds 0 nothing was gained."""


def single_sections(runs: Path, before: dict[str, str]) -> list[str]:
    """Both sections; what stood there before where a run is not on this machine."""
    found = _results(runs / "recovery").get("recovery")
    probes = {name: r for name, r in _results(runs / "utility").items() if name.startswith("utility")}
    return [
        recovery(found) if found else before.get(RECOVERY) or _not_run(RECOVERY, "recovery"),
        utility(probes) if probes else before.get(UTILITY) or _not_run(UTILITY, "utility"),
    ]


def _results(run: Path) -> dict[str, Any]:
    path = run / "metrics.json"
    return json.loads(path.read_text())["results"] if path.exists() else {}


def _not_run(question: str, recipe: str) -> str:
    return f"### {question}\n\n`gen run recipes/studies/{recipe}.toml`; not run yet."


def _with_interval(v: dict[str, Any], sign: str = "") -> str:
    interval = "" if v["low"] is None else f" [{v['low']:{sign}.3f}, {v['high']:{sign}.3f}]"
    return f"{v['value']:{sign}.3f}{interval}"


def recovery(found: dict[str, Any]) -> str:
    """The rates in a table, and the report's two claims."""
    rates = {v["name"]: v for v in found["values"] if v["name"].startswith("recovered, ")}
    rate = lambda space, distance: rates[f"recovered, {space}, {distance}"]
    spaces = list(dict.fromkeys(name.split(", ")[1] for name in rates))
    lines = [f"### {RECOVERY}", "", ABOUT_RECOVERY, "", "| features | L1 | L2 | cosine |", "| --- | --- | --- | --- |"]
    for space in spaces:
        cells = " | ".join(_with_interval(rate(space, d)) for d in ("l1", "l2", "cosine"))
        lines.append(f"| {space.removeprefix('features.')} | {cells} |")
    best = max((s for s in spaces if s != "pixels"), key=lambda s: rate(s, "l1")["value"])
    name, top = best.removeprefix("features."), rate(best, "l1")["value"]
    by_l1 = all(top >= rate(best, d)["value"] for d in ("l2", "cosine"))
    verdict = lambda yes: "**agrees**" if yes else "**does not agree**"
    lines += ["", f"- the best network is `{name}`, published MoCo ResNet-50: {verdict(name == 'moco-resnet50')}."]
    lines += [f"- its best distance is {'L1' if by_l1 else 'not L1'}, published L1: {verdict(by_l1)}."]
    if "pixels" in spaces and (pixels := rate("pixels", "l1")["value"]) > top:
        lines += [
            f"- pixels of 16 x 16 find more ({pixels:.3f}) than any network: **does not agree**. Phantom eyes of 64"
        ]
        lines += ["  pixels are told apart by their coarse layout, and the networks were fitted for a minute."]
    return "\n".join(lines)


def utility(probes: dict[str, dict[str, Any]]) -> str:
    """Areas and gains, a row a probe."""
    lines = [f"### {UTILITY}", "", ABOUT_UTILITY, "", "| pretext, probe | pre-trained on | AUC | gain over the first |"]
    lines += ["| --- | --- | --- | --- |"]
    for name, result in probes.items():
        values = {v["name"]: v for v in result["values"]}
        for title, v in values.items():
            if title.startswith("auc, ") and v["source"] == "val":
                probe = title.removeprefix("auc, ")
                gain = next((g for n, g in values.items() if n.startswith(f"auc gain, {probe} over")), None)
                said = _with_interval(gain, "+") if gain else "-"
                on = "the best observer" if "ceiling" in probe else probe.rpartition("-")[2]
                row = (name.removeprefix("utility-"), on, _with_interval(v), said)
                lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)
