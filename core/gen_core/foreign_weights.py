"""Weights of somebody else's network from a file: safetensors, or a state dict that torch.save wrote (.pt, .pth).

Nothing in a file runs (`plain_pickle`), and no more than the file holds is ever allocated. Both layouts of torch.save
are read: the zip archive (torch >= 1.6), and the bare stream before it. A training checkpoint can be opened for the
state dict in it.

Source: torch/serialization.py (the two layouts).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gen_core.errors import DataError, MissingError
from gen_core.plain_pickle import Refused, Storage, View, read_plain

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first two values of the bare stream
LONGEST_INDEX = 256 * 2**20  # bytes of the pickle stream; that of a network of 10 000 tensors has 1 MiB

# what reading a damaged or foreign file can end in
BROKEN = (
    Refused, SafetensorError, zipfile.BadZipFile, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError,
    RuntimeError, MemoryError,
)  # fmt: skip


def read_state(path: str | Path, sha256: str, key: str, entry: str = "") -> dict[str, Tensor]:
    """Name -> tensor of the file that the recipe's `key` names, each with memory of its own, on the CPU.

    sha256: what the file must hash to; "" takes any. entry: which state dict of a checkpoint that holds several, as
    "unet_state_dict"; "" takes the only one. A leading "module." of every name (several GPUs) is dropped.

    Raises: MissingError when there is no such file, or it is another one; DataError when it holds no state dict.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingError(f"{key} = '{path}': no such file; nothing is downloaded, so it must be put there by hand")
    if sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            raise MissingError(f"{key} = '{path}': SHA-256 {found}, expected {sha256}; it is damaged or another file")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = _zipped(path, entry) if zipfile.is_zipfile(path) else _bare(path, entry)
    except BROKEN as error:
        raise DataError(f"{key} = '{path}': no state dict of tensors: {error or type(error).__name__}") from error
    prefix = "module."
    if all(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], key: str) -> None:
    """Put `state` into `network`: every tensor, none left over; nothing is changed unless all fit.

    On the meta device the names and shapes are compared only. Raises: DataError naming the first tensor that differs.
    """
    own = network.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise DataError(f"{key}: the file has no tensor '{name}'; it is of another architecture, see the settings")
        if state[name].shape != tensor.shape:
            raise DataError(
                f"{key}: '{name}' is {tuple(state[name].shape)} in the file, {tuple(tensor.shape)} by the settings"
            )
    more = sorted(set(state) - set(own))
    if more:
        raise DataError(f"{key}: the file's '{more[0]}' ({len(more)} such) has no place in the network of the settings")
    if not any(t.is_meta for t in own.values()):
        network.load_state_dict(dict(state), strict=True)


# The two layouts


def _zipped(path: Path, entry: str) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        indexes = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(indexes) != 1 or entries[indexes[0]].file_size > LONGEST_INDEX:
            raise Refused("it was not written by torch.save")
        top = indexes[0].removesuffix("data.pkl")
        if f"{top}constants.pkl" in entries:
            raise Refused("it is a TorchScript program; save its state_dict() instead")
        if f"{top}byteorder" in entries and archive.read(f"{top}byteorder") != b"little":
            raise Refused("its numbers are big-endian")
        state = _chosen(read_plain(io.BytesIO(archive.read(indexes[0]))), entry)
        wanted = {view.storage.key: view.storage for view in state.values()}
        return _tensors(state, {key: _stored(archive, entries, top, storage) for key, storage in wanted.items()})


def _stored(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], top: str, storage: Storage) -> bytes:
    info = entries[f"{top}data/{storage.key}"]
    # torch stores without compression: anything else could unpack to more than the file holds
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != storage.numel * storage.dtype.itemsize:
        raise Refused(f"its numbers '{storage.key}' are cut off or packed")
    return archive.read(info)


def _bare(path: Path, entry: str) -> dict[str, Tensor]:
    with path.open("rb") as file:
        if (read_plain(file), read_plain(file)) != (MAGIC, PROTOCOL):
            raise Refused("it was not written by torch.save")
        if not read_plain(file).get("little_endian"):
            raise Refused("its numbers are big-endian")
        value, keys = read_plain(file), read_plain(file)
        storages = _storages(value)
        content = {}
        for key in keys:
            size = int.from_bytes(file.read(8), "little") * storages[key].dtype.itemsize
            content[key] = file.read(min(size, path.stat().st_size))
        return _tensors(_chosen(value, entry), content)


def _storages(value: Any) -> dict[str, Storage]:
    """Every storage that a value refers to: the numbers of a bare stream lie one after the other."""
    match value:
        case View():
            return {value.storage.key: value.storage}
        case dict():
            parts = value.values()
        case list() | tuple():
            parts = value
        case _:
            return {}
    return {key: storage for part in parts for key, storage in _storages(part).items()}


def _tensors(state: dict[str, View], content: Mapping[str, bytes]) -> dict[str, Tensor]:
    numbers, found = {}, {}
    for name, view in state.items():
        storage = view.storage
        if storage.key not in numbers:
            if len(content[storage.key]) != storage.numel * storage.dtype.itemsize:
                raise Refused(f"'{name}' is cut off")
            numbers[storage.key] = (
                torch.frombuffer(bytearray(content[storage.key]), dtype=storage.dtype)
                if storage.numel
                else torch.empty(0, dtype=storage.dtype, device="cpu")
            )
        if min(view.shape, default=0) < 0 or prod(view.shape) > storage.numel:
            raise Refused(f"'{name}' is larger than its numbers")
        found[name] = numbers[storage.key].as_strided(view.shape, view.stride, view.offset).clone()
    return found


# Which state dict


def _chosen(value: Any, entry: str) -> dict[str, View]:
    """The state dict in a file: all of it, or the one of a checkpoint's entries that `entry` names."""
    if not isinstance(value, dict):
        raise Refused("it holds no dictionary")
    if entry:
        if not _is_state(value.get(entry)):
            raise Refused(f"its entry '{entry}' is none; there are {sorted(map(str, value))[:20]}")
        return value[entry]
    if _is_state(value):
        return value
    inside = sorted(name for name, inner in value.items() if isinstance(name, str) and _is_state(inner))
    if len(inside) != 1:
        raise Refused(f"name one of its state dicts: {inside}" if inside else "it holds something else")
    return value[inside[0]]


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and isinstance(view, View) for name, view in value.items())
    )
