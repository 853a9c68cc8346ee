"""Every benchmark in turn, each in a process of its own; or the table of what they found.

make benchmarks                                # runs all, then writes the table
python benchmarks/all.py unet kmeans           # some of them, then the table
python benchmarks/all.py --table               # the table alone, from results/*.json, into README.md
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from marks import ROWS, Row

HERE = Path(__file__).resolve().parent
SCRIPTS = (
    "vq_lookup",
    "kmeans",
    "codec_forward",
    "unet",
    "ms_ssim",
    "frechet",
    "evaluation",
    "inception_features",
    "neighbours",
    "cube_resize",
    "dicom_series",
    "rtstruct",
    "lidc_xml",
    "start_up",
)
BEGIN, END = "<!-- table: python benchmarks/all.py --table -->", "<!-- end of table -->"


def kept() -> dict[tuple[str, str], dict[str, Any]]:
    """(script, comparison) -> what the script kept of it."""
    found = {}
    for path in sorted((HERE / "results").glob("*.json")):
        content = json.loads(path.read_text())
        rows = [row for row in content["rows"] if "sides" in row]
        found |= {(content["script"], row["name"]): row for row in rows}
    return found


def seconds(value: float) -> str:
    if value >= 1:
        return f"{value:.2f} s"
    return f"{1e3 * value:.0f} ms" if value >= 0.0095 else f"{1e3 * value:.1f} ms"


def verdict(row: Row, ours: dict[str, Any]) -> str:
    """What was aimed at, and whether it was met."""
    aims = []
    if row.mark is not None:
        aims.append((f"{row.mark:g} x", ours["ratio"] >= row.mark))
    if row.seconds is not None:
        aims.append((seconds(row.seconds), ours["median_s"] <= row.seconds))
    if row.megabytes is not None and ours["extra_mb"] is not None:
        aims.append((f"{row.megabytes:g} MB", ours["extra_mb"] <= row.megabytes))
    if not aims:
        return "-"
    missed = [aim for aim, met in aims if not met]
    said = f"; {row.missed}" if missed and row.missed else ""
    return f"{', '.join(aim for aim, _ in aims)}: {'missed' if missed else 'met'}{said}"


def table() -> str:
    """One line a row of `marks`, in Markdown."""
    lines = ["| work | peer | ours | ratio | extra memory: peer, ours | mark | measured |", "|" + " --- |" * 7]
    found, machines = kept(), {}
    for row in ROWS:
        result = found.get((row.script, row.name))
        sides = result["sides"] if result else {}
        if row.peer not in sides or row.ours not in sides:
            lines.append(f"| {row.what} | - | - | - | - | - | not yet: `{row.script}.py` |")
            continue
        peer, ours = sides[row.peer], sides[row.ours]
        memory = "-" if ours["extra_mb"] is None else f"{peer['extra_mb']:.0f}, {ours['extra_mb']:.0f} MB"
        at = machines.setdefault(result["machine"], f"({len(machines) + 1})")
        load = "" if result.get("load") is None else f", load {result['load']:g}"
        ratio = ours["ratio"] / peer["ratio"]
        ours = {**ours, "ratio": ratio}
        cells = [
            row.what, f"{row.peer}: {seconds(peer['median_s'])}", seconds(ours["median_s"]), f"{ratio:.2f} x",
            memory, verdict(row, ours), f"`{row.script}.py`, {result['date']}{load} {at}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{at} {machine}." for machine, at in machines.items())])


def write_table(page: Path = HERE / "README.md") -> None:
    """Put the table between its two marks on the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}")


def main() -> int:
    worst = 0
    asked = [name for name in sys.argv[1:] if not name.startswith("-")]
    for name in () if "--table" in sys.argv else asked or SCRIPTS:
        print(f"\n## {name}\n", flush=True)
        worst = max(worst, subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode)
    write_table()
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
