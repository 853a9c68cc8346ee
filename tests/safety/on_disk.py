"""What lies on disk after a failure: every number of every file is looked at."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def poisoned(folder: Path) -> list[str]:
    """Files below `folder` that hold NaN, or infinite weights, averages or moments; JSON with NaN or Infinity in it."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".safetensors":
            for name, value in load_file(path).items():
                if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                    found.append(f"{path.relative_to(folder)}: {name}")
        elif path.suffix in (".json", ".jsonl"):
            for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
                try:
                    json.loads(line, parse_constant=_refuse)
                except ValueError as error:
                    found.append(f"{path.relative_to(folder)}: {error}")
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"holds {word}")
