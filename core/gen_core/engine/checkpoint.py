"""Checkpoints that are whole or absent, and the weights a fit leaves behind.

A checkpoint is a folder of safetensors files and one state.json, which holds the SHA-256 of every file and of
itself. It is written beside, flushed and renamed. Never pickle. Also here: `weights.safetensors` with
`weights.json`, the product of a fit that others load.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gen_core import atomic
from gen_core.engine.sharding import like
from gen_core.engine.soundness import unsound_state
from gen_core.errors import MissingError, RunError
from gen_core.trainable import Trainable

FORMAT = 1
WEIGHTS = "weights.safetensors"
WEIGHTS_JSON = "weights.json"
STATE_JSON = "state.json"
KEPT = 2  # newest checkpoints that stay
JSON_BYTES = 64 << 20  # more than any state; keeps a wrong file from being read whole
UNREADABLE = (SafetensorError, ValueError, RecursionError, MemoryError)  # what damaged content can end in


class DamagedCheckpoint(RunError):
    """A checkpoint that does not verify; the message names the file."""


@frozen(eq=False)
class Checkpoint:
    """A verified checkpoint: its folder and its state; tensors are read on demand."""

    folder: Path
    state: dict[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The content of `name`.safetensors, on the CPU; empty if there is none. Raises: DamagedCheckpoint."""
        path = self.folder / f"{name}.safetensors"
        try:
            return load_file(path) if path.name in self.state["files"] else {}
        except (OSError, *UNREADABLE) as error:
            raise DamagedCheckpoint(f"{path}: unreadable: {_reason(error)}") from None


def checkpoint_name(step: int) -> str:
    return f"step-{step:08d}"


def save_checkpoint(folder: Path, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> Path:
    """Write `folder` with <name>.safetensors for each of `tensors` (empty ones left out) and state.json.

    An older folder of that name is replaced. Raises: RunError when it cannot be written; then nothing stays.
    """
    beside = folder.with_name(f".{folder.name}{atomic.SUFFIX}{os.getpid()}")
    try:
        atomic.make_folder(folder.parent)
        beside.mkdir()
        for name, values in tensors.items():
            if values:
                save_file(_storable(values), beside / f"{name}.safetensors")
        state = {**state, "format": FORMAT, "files": _digests(beside, beside.glob("*.safetensors"))}
        (beside / STATE_JSON).write_text(json.dumps({**state, "sha256": _state_digest(state)}, indent=1))
        atomic.remove_folder(folder)
        atomic.publish_folder(beside, folder)
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot write checkpoint {folder}: {_reason(error)}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def open_checkpoint(folder: Path) -> Checkpoint:
    """Verify a checkpoint. Raises: DamagedCheckpoint naming the file at fault."""
    path = folder / STATE_JSON
    try:
        state = _json(path)
        fits = isinstance(state, dict) and state.get("sha256") == _state_digest(state)
    except FileNotFoundError:
        raise DamagedCheckpoint(f"{path}: missing") from None
    except (OSError, *UNREADABLE) as error:
        raise DamagedCheckpoint(f"{path}: unreadable: {_reason(error)}") from None
    if not fits:
        raise DamagedCheckpoint(f"{path}: its content does not match its SHA-256")
    if not isinstance(state.get("format"), int):
        raise DamagedCheckpoint(f"{path}: key 'format' is missing or no number")
    if state["format"] != FORMAT:
        raise RunError(f"{path}: checkpoint format {state['format']}, this version reads {FORMAT}")
    names = state.get("files")
    if not isinstance(names, dict) or not all(_is_plain(n) and isinstance(d, str) for n, d in names.items()):
        raise DamagedCheckpoint(f"{path}: key 'files' is no table of file names of this folder and their SHA-256")
    missing = [name for name in state["files"] if not (folder / name).is_file()]
    if missing:
        raise DamagedCheckpoint(f"{folder / missing[0]}: missing")
    try:
        found = _digests(folder, (folder / name for name in state["files"]))
    except OSError as error:
        raise DamagedCheckpoint(f"{folder}: unreadable: {_reason(error)}") from None
    for name, digest in state["files"].items():
        if found[name] != digest:
            raise DamagedCheckpoint(f"{folder / name}: its content does not match its SHA-256")
    return Checkpoint(folder, state)


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint under `folder` that verifies, and one line for each damaged one passed over."""
    problems = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return open_checkpoint(path), problems
        except DamagedCheckpoint as error:
            problems.append(f"damaged checkpoint passed over: {error}")
    return None, problems


def prune(folder: Path, newest: Path) -> None:
    """Keep `newest` and the one before it, and the best weights these two know of."""
    steps = sorted(folder.glob("step-*"), reverse=True)
    # what is newer than the newest was damaged, and passed over on resuming
    kept = [path for path in steps if path.name <= newest.name][:KEPT]
    needed = set()
    for path in kept:
        try:
            needed.add((atomic.json_object(path / STATE_JSON).get("best") or {}).get("name"))
        except (OSError, ValueError, AttributeError):
            continue
    for path in [*steps, *folder.glob("best-*")]:
        if path not in kept and path.name not in needed:
            shutil.rmtree(path, ignore_errors=True)


def load_strict(module: nn.Module, tensors: dict[str, Tensor], origin: Path) -> None:
    """Copy `tensors` into the module; every key and shape must fit. Raises: RunError naming the keys."""
    missing, strangers, unequal = _compare(module, tensors)
    parts = [("missing", missing), ("unexpected", strangers), ("of another shape or type", unequal)]
    if any(names for _, names in parts):
        said = "; ".join(f"{what}: {_some(names)}" for what, names in parts if names)
        raise RunError(f"{origin}: weights do not fit this model; {said}")
    module.load_state_dict(like(module.state_dict(), tensors), strict=True)


def write_weights(
    module: Trainable,
    folder: Path,
    info: dict[str, Any],
    header: dict[str, Any] | None = None,
    weights: dict[str, Tensor] | None = None,
) -> Path:
    """Write the module's weights as a fit's product: weights.safetensors, then weights.json with its SHA-256.

    weights: in place of its state dict.
    """
    weights = module.state_dict() if weights is None else weights
    path = folder / WEIGHTS
    if bad := unsound_state(module, weights, extra_state=module.extra_state()):
        raise RunError(f"{path}: not written: {bad}")
    # one metadata key: several would be stored in random order, and the bytes would differ
    metadata = {"gen": json.dumps(header or {}, sort_keys=True)}
    try:
        with atomic.replacing(path) as beside:
            save_file(_storable(weights), beside, metadata=metadata)
        record = {"format": FORMAT, "sha256": _sha256(path), **info}
        record |= {"extra_state": module.extra_state(), "header": header or {}, "torch": torch.__version__}
        atomic.write_json(folder / WEIGHTS_JSON, record)
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot write {path}: {_reason(error)}") from error
    return path


def read_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of a fit's product, verified.

    Raises: MissingError when there are none; RunError when they are damaged; both name the file.
    """
    path, record_path = folder / WEIGHTS, folder / WEIGHTS_JSON
    for needed in (path, record_path):
        if not needed.is_file():
            raise MissingError(f"{needed}: no fitted weights here; was this step finished?")
    try:
        record = _json(record_path)
    except (OSError, *UNREADABLE) as error:
        raise RunError(f"{record_path}: unreadable: {_reason(error)}") from None
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise RunError(f"{record_path}: key 'sha256' is missing: this is no record of weights")
    if _sha256(path) != record["sha256"]:
        raise RunError(f"{path}: damaged: its content does not match the SHA-256 in {WEIGHTS_JSON}")
    try:
        return load_file(path), record
    except (OSError, *UNREADABLE) as error:
        raise RunError(f"{path}: unreadable: {_reason(error)}") from None


def _json(path: Path) -> Any:
    """The content of a JSON file. Raises: OSError, ValueError, RecursionError."""
    if path.stat().st_size > JSON_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes, expected at most {JSON_BYTES}")
    return json.loads(path.read_text(encoding="utf-8"))


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file of the folder itself."""
    return bool(name) and name == os.path.basename(name) and name not in (".", "..") and name.isprintable()


def load_weights(module: Trainable, folder: Path) -> dict[str, Any]:
    """Load a fit's product into `module`, strictly, with its extra state; returns the record of weights.json."""
    tensors, record = read_weights(folder)
    load_strict(module, tensors, folder / WEIGHTS)
    module.load_extra_state(record.get("extra_state") or {})
    return record


def init_weights(module: nn.Module, folder: Path) -> list[str]:
    """Start `module` from another fit's product; returns the keys that restart from scratch, each with its reason.

    Extra state is not taken over. Raises: RunError when no key fits.
    """
    tensors, _ = read_weights(folder)
    missing, strangers, unequal = _compare(module, tensors)
    fitting = {k: v for k, v in tensors.items() if k not in strangers and k not in unequal}
    if not fitting:
        raise RunError(f"{folder / WEIGHTS}: no weight fits this model; it starts with {_some(list(tensors))}")
    own = module.state_dict()
    module.load_state_dict({**own, **fitting}, strict=True)
    return (
        [f"{k}: not in the other model" for k in missing]
        + [f"{k}: only in the other model" for k in strangers]
        + [f"{k}: {tuple(tensors[k].shape)} there, {tuple(own[k].shape)} here" for k in unequal]
    )


def _compare(module: nn.Module, tensors: dict[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Keys missing from `tensors`, strange to the module, and of another shape or type."""
    own = module.state_dict()
    missing = [k for k in own if k not in tensors]
    strangers = sorted(k for k in tensors if k not in own)
    both = [(k, v, tensors[k]) for k, v in own.items() if k in tensors]
    return missing, strangers, [k for k, a, b in both if a.shape != b.shape or a.dtype != b.dtype]


def _storable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU copies where needed; no two share storage, which safetensors refuses."""
    seen: set[int] = set()
    out = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        storage = value.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != value.nbytes:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        out[name] = value
    return out


def _digests(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """File name -> SHA-256; in threads, as hashing lets go of the interpreter."""
    paths = sorted(paths)
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip((p.name for p in paths), pool.map(_sha256, paths)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state_digest(state: dict[str, Any]) -> str:
    rest = {k: v for k, v in state.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _some(names: list[str], n: int = 6) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def _reason(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(said.split())[:300]  # a damaged file may be quoted
