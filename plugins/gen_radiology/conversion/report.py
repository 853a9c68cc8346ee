"""What a conversion tells: report.json and left_out.csv, in pseudonyms and without paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gen_core import __version__, atomic
from gen_core.errors import DataError
from gen_core.writer import Conversion
from gen_radiology.conversion.completeness import PARTS, Inventory, write_csv
from gen_radiology.conversion.converted_files import Unit
from gen_radiology.conversion.discretion import Discretion
from gen_radiology.conversion.mask_files import MaskFile
from gen_radiology.conversion.pseudonyms import Pseudonyms

REPORT, LEFT_OUT = "report.json", "left_out.csv"
PART = {"structures": "structures", "segmentation": "segmentation", "labels": "segmentation", "readings": "structures"}


class Report:
    """Of one conversion. inventory: who has what. written: a row an image; left_out: a row a file or a series."""

    def __init__(self, asked: Conversion, secret: Pseudonyms, discretion: Discretion):
        self.asked, self.secret, self.discretion = asked, secret, discretion
        self.path = asked.target / REPORT
        self.inventory = Inventory()
        self.written: list[dict[str, Any]] = []
        self.left_out: list[dict[str, Any]] = []

    @property
    def key(self) -> str:
        """What tells the key of this set; none where nothing is replaced."""
        return "" if self.asked.keep_ids and self.asked.to == "nifti" else self.secret.fingerprint

    def same_key(self) -> None:
        """A set has one key: another one would give one patient two names. Raises: DataError."""
        if not self.path.exists():
            return
        try:
            found = atomic.json_object(self.path)["key"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: not the report of a conversion: {type(error).__name__}: {error}") from None
        if found != self.key:
            raise DataError(
                f"{self.asked.target}: was made with another table of pseudonyms; name that one (--table), "
                "or an empty folder"
            )

    def begin(self) -> None:
        """Leave the key in a set that has no report yet."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(self.path, {"gen": __version__, "key": self.key, "unfinished": True})

    def row(
        self,
        unit: Unit,
        files: Sequence[Path],
        of: int,
        gave: Sequence[MaskFile],
        notes: Sequence[str],
        settings: str,
    ) -> dict[str, Any]:
        """What became of a series: its files with their sizes, and the mask files that gave something."""
        folder = self.asked.target / unit.patient
        return {
            "patient": unit.patient,
            "image": unit.stem,
            "modality": unit.series.modality,
            "files": {f.relative_to(folder).as_posix(): f.stat().st_size for f in files},
            "sources": {
                part: [self.secret.file(f.path) for f in gave if PART[f.kind] == part]
                for part in PARTS
                if part != "image"
            },
            "of": of,
            "notes": [self.discretion.quiet(note, unit.patient, unit) for note in notes],
            "settings": settings,
        }

    def leave(self, path: Path, patient: str, why: str, unit: Unit | None = None) -> None:
        """Note what is not used. Without `unit` it is a single file."""
        reason = why.removeprefix(f"{path}: ")
        name = unit.stem if unit else self.secret.file(path)
        self.left_out.append({"patient": patient, "what": name, "reason": reason, "path": str(path)})

    def write(self) -> dict[str, Any]:
        """Write report.json and left_out.csv, without paths; return the same with paths, for the one who asked."""
        patients = self.inventory.rows(self.asked.require)
        shown = [{**row, "reason": self.discretion.reason(row)} for row in self.left_out]
        if not self.asked.keep_ids:
            shown = [{k: v for k, v in row.items() if k != "path"} for row in shown]
        self.asked.target.mkdir(parents=True, exist_ok=True)
        write_csv(self.asked.target / LEFT_OUT, shown, ["patient", "what", "reason"] + ["path"] * self.asked.keep_ids)
        report = {
            "gen": __version__,
            "key": self.key,
            "to": self.asked.to,
            "require": list(self.asked.require),
            "parts": list(PARTS),
            "patients": patients,
            "written": [{k: v for k, v in row.items() if k not in ("settings", "kept")} for row in self.written],
            "left_out": shown,
        }
        atomic.write_json(self.path, report)
        return {**report, "written": self.written, "left_out": self.left_out}
