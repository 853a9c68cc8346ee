"""What samples' conditions depend on outside the recipe: files and runs, as facts for fingerprints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gen_core.run.folder import RunFolder, sha256_file

SPLITS, NONE = ("train", "val"), "none"


def source_facts(options: Any) -> dict[str, Any]:
    """What samples depend on beside the recipe's own words: contents of files, the run that conditions come from."""
    facts: dict[str, Any] = {}
    files = [v for v in options.fixed.values() if isinstance(v, str) and Path(v).is_file()]
    if options.conditions.endswith(".csv"):
        files.append(options.conditions)
    for name in files:
        if Path(name).is_file():
            facts[name] = sha256_file(Path(name))
    done = RunFolder(Path(options.conditions)).done("sample") if options.conditions not in (*SPLITS, NONE) else None
    if done:
        facts[options.conditions] = done.get("fingerprint", "")
    return facts
