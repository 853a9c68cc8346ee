"""Tensors in one safetensors file that appears whole, and tells when its content is not what was written.

The header keeps a SHA-256 over names, types, shapes and bytes of all tensors and over the words beside them. A file
with nothing beside its tensors (of an earlier version, or of other software) is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gen_core import atomic
from gen_core.errors import RunError

HEADER = "gen"  # one metadata key: several would be stored in random order, and the bytes would differ


class DamagedFile(RunError):
    """A file that does not hold what was written; the message names it."""


def write_tensors(path: Path, tensors: dict[str, Tensor], words: dict[str, Any] | None = None) -> None:
    """Write `tensors` and JSON `words` to `path` atomically. Raises: RunError naming the file."""
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    header = {"words": words or {}, "sha256": _digest(tensors, words or {})}
    try:
        with atomic.replacing(path) as beside:
            save_file(tensors, beside, {HEADER: json.dumps(header, sort_keys=True)})
    except SafetensorError as error:  # what the native writer makes of a full disk
        raise RunError(f"{path}: cannot be written: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the words of a file. Raises: DamagedFile naming it, also when it is missing."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            told = file.metadata()
        header = json.loads(told[HEADER]) if told else {"words": {}}
        words = header["words"]
        whole = not told or header["sha256"] == _digest(tensors, words)
    except FileNotFoundError:
        raise DamagedFile(f"{path}: missing") from None
    except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
        raise DamagedFile(f"{path}: damaged ({error})") from None
    if not whole:
        raise DamagedFile(f"{path}: damaged: its content does not match its SHA-256")
    return tensors, words


def _digest(tensors: dict[str, Tensor], words: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
