"""Names, UIDs and dates replaced under one key: the same in, the same out, and no way back without the table.

Source: HMAC, RFC 2104, with SHA-256; UUIDs of version 8, RFC 9562; DICOM PS3.5, B.2 (UUID derived UID).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from datetime import date, timedelta
from pathlib import Path

from attrs import Factory, define

from gen_core import atomic
from gen_core.errors import DataError


@define(eq=False)
class Pseudonyms:
    """Keyed replacements. key: 32 bytes. patients: original -> pseudonym; files: pseudonym -> path."""

    key: bytes = Factory(lambda: secrets.token_bytes(32))
    keep_ids: bool = False
    patients: dict[str, str] = Factory(dict)
    files: dict[str, str] = Factory(dict)

    @classmethod
    def load(cls, table: Path | None, target: Path, keep_ids: bool = False) -> Pseudonyms:
        """From the file of an earlier conversion, or fresh. Raises: DataError: damaged, or a table inside `target`."""
        if table is None:
            return cls(keep_ids=keep_ids)
        if table.resolve().is_relative_to(target.resolve()):
            raise DataError(f"{table}: the table of pseudonyms must not lie in the folder it protects, {target}")
        if not table.exists():
            return cls(keep_ids=keep_ids)
        try:
            data = atomic.json_object(table)
            found = cls(bytes.fromhex(data["key"]), keep_ids, dict(data["patients"]), dict(data["files"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{table}: not a table of pseudonyms: {type(error).__name__}: {error}") from None
        if len(found.key) < 16:
            raise DataError(f"{table}: key 'key' is too short to protect anything")
        return found

    def save(self, table: Path) -> None:
        """Readable by its owner only."""
        text = json.dumps({"key": self.key.hex(), "patients": self.patients, "files": self.files}, indent=1)
        with atomic.replacing(table) as beside:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text + "\n")

    @property
    def fingerprint(self) -> str:
        """Tells two keys apart and gives neither away."""
        return self.digest("fingerprint", "")[:16]

    def digest(self, kind: str, value: str) -> str:
        """Hex digest of a value under the key."""
        return hmac.new(self.key, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()

    def uid(self, original: str) -> str:
        """A UID below 2.25, a UUID of version 8 (PS3.5 B.2, RFC 9562)."""
        number = int(self.digest("uid", original)[:32], 16)
        number = number & ~(0xF << 76) | 8 << 76
        number = number & ~(0x3 << 62) | 2 << 62
        return f"2.25.{number}"

    def patient(self, original: str) -> str:
        """The name of a patient in the set."""
        if self.keep_ids:
            return original or "unknown"
        name = "P-" + self.digest("patient", original)[:10]
        self.patients[original] = name
        return name

    def file(self, path: Path) -> str:
        """A name for a source file that gives nothing away."""
        if self.keep_ids:
            return str(path)
        name = "f-" + self.digest("file", str(path))[:10]
        self.files[name] = str(path)
        return name

    def shifted(self, patient: str, day: str) -> str:
        """YYYYMMDD, earlier by 1 to 3650 days, the same for all dates of a patient; "" for what is no date."""
        try:
            whole = date(int(day[:4]), int(day[4:6]), int(day[6:8]))
            days = 1 + int(self.digest("days", patient)[:8], 16) % 3650
            return (whole - timedelta(days=days)).strftime("%Y%m%d")
        except (ValueError, OverflowError):
            return ""
