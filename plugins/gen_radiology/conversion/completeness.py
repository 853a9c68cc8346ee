"""Which patients have what: images, structures, segmentations; and tables of what was left out and why."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import Factory, define

from gen_core import atomic

PARTS = ("image", "structures", "segmentation")


@define
class Holdings:
    """What a patient has: counts by part."""

    count: dict[str, int] = Factory(lambda: dict.fromkeys(PARTS, 0))

    def missing(self, required: Sequence[str]) -> list[str]:
        """The required parts that there are none of."""
        return [part for part in PARTS if part in required and not self.count[part]]


@define
class Inventory:
    """Holdings by patient, in the order they were met."""

    patients: dict[str, Holdings] = Factory(lambda: defaultdict(Holdings))

    def add(self, patient: str, part: str, number: int = 1) -> None:
        self.patients[patient].count[part] += number

    def missing(self, patient: str, required: Sequence[str]) -> list[str]:
        return self.patients[patient].missing(required)

    def rows(self, required: Sequence[str]) -> list[dict[str, Any]]:
        """One row a patient: counts, whether it is complete, what is missing."""
        rows = []
        for patient in sorted(self.patients):
            holdings = self.patients[patient]
            missing = holdings.missing(required)
            told = {"complete": not missing, "missing": ", ".join(missing)}
            rows.append({"patient": patient, **holdings.count, **told})
        return rows


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Rows as CSV, atomically; a cell that a spreadsheet would take for a formula is quoted by an apostrophe."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"'{v}" if str(v).startswith(("=", "+", "-", "@")) else v for k, v in row.items()})
    atomic.write_text(path, out.getvalue())
