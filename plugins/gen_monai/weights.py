"""Weights of MONAI's networks from a file: safetensors, or what torch.save wrote (.pt, .pth).

Files of torch.save are pickles, programs that a reader runs. Here nothing runs: the stream is read as data, tensors are
made of the numbers beside it, and every other object is an opaque value. So a training checkpoint can be opened for the
state dict in it. Only the zip layout is read (torch >= 1.6), and no more than the file holds is ever allocated.

Source: Python's pickletools (the opcodes); torch/serialization.py (the layout).
"""

from __future__ import annotations

import hashlib
import io
import pickletools
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from gen_core.errors import DataError, MissingError

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
LONGEST_INDEX = 256 * 2**20  # bytes of the pickle stream; that of a network of 10 000 tensors has 1 MiB


class _Refused(Exception):
    """Why a file is no state dict, in words."""


@frozen
class _Opaque:
    """An object that is named or made in the stream; it is never looked up nor made."""

    path: str = ""


@frozen
class _Storage:
    """A run of numbers kept elsewhere in the file."""

    dtype: torch.dtype
    key: str
    numel: int


@frozen
class _View:
    """A tensor as offset, shape and strides over a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


# what reading a damaged or foreign file can end in
BROKEN = (
    _Refused, zipfile.BadZipFile, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError,
    MemoryError,
)  # fmt: skip


def read_state(path: str | Path, sha256: str, key: str, entry: str = "") -> dict[str, Tensor]:
    """Name -> tensor of the file that the recipe's `key` names.

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
        state = _safetensors(path) if path.suffix == ".safetensors" else _saved(path, entry)
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


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise _Refused(str(error)) from None


def _saved(path: Path, entry: str) -> dict[str, Tensor]:
    if not zipfile.is_zipfile(path):
        raise _Refused("it is no zip archive; save it anew with torch >= 1.6, or as safetensors")
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        indexes = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(indexes) != 1 or entries[indexes[0]].file_size > LONGEST_INDEX:
            raise _Refused("it was not written by torch.save")
        top = indexes[0].removesuffix("data.pkl")
        if f"{top}constants.pkl" in entries:
            raise _Refused("it is a TorchScript program; save its state_dict() instead")
        if f"{top}byteorder" in entries and archive.read(f"{top}byteorder") != b"little":
            raise _Refused("its numbers are big-endian")
        state = _chosen(_value(io.BytesIO(archive.read(indexes[0]))), entry)
        storages: dict[str, Tensor] = {}
        for name, view in state.items():
            if view.storage.key not in storages:
                storages[view.storage.key] = _numbers(archive, entries, top, view.storage)
            if min(view.shape, default=0) < 0 or prod(view.shape) > view.storage.numel:
                raise _Refused(f"'{name}' is larger than its numbers")
        return {n: storages[v.storage.key].as_strided(v.shape, v.stride, v.offset).clone() for n, v in state.items()}


def _numbers(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], top: str, storage: _Storage) -> Tensor:
    info = entries[f"{top}data/{storage.key}"]
    # torch stores without compression: anything else could unpack to more than the file holds
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != storage.numel * storage.dtype.itemsize:
        raise _Refused(f"its numbers '{storage.key}' are cut off or packed")
    if not storage.numel:
        return torch.empty(0, dtype=storage.dtype, device="cpu")
    return torch.frombuffer(bytearray(archive.read(info)), dtype=storage.dtype)


def _chosen(value: Any, entry: str) -> dict[str, _View]:
    """The state dict in a file: all of it, or the one of a checkpoint's entries that `entry` names."""
    if not isinstance(value, dict):
        raise _Refused("it holds no dictionary")
    if entry:
        if not _is_state(value.get(entry)):
            raise _Refused(f"its entry '{entry}' is none; there are {sorted(map(str, value))[:20]}")
        return value[entry]
    if _is_state(value):
        return value
    inside = sorted(name for name, inner in value.items() if isinstance(name, str) and _is_state(inner))
    if len(inside) != 1:
        raise _Refused(f"name one of its state dicts: {inside}" if inside else "it holds something else")
    return value[inside[0]]


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and isinstance(view, _View) for name, view in value.items())
    )


def _value(stream: io.BytesIO) -> Any:
    """The value of a pickle stream, built from plain data alone."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        taken = stack[start:]
        del stack[start:]
        return taken

    for opcode, argument, _ in pickletools.genops(stream):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "POP":
                stack.pop()
            case (
                "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE"
                | "BINUNICODE8" | "SHORT_BINBYTES" | "BINBYTES" | "SHORT_BINSTRING" | "BINSTRING"
            ):  # fmt: skip
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_SET":
                stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": (), "EMPTY_SET": []}[opcode.name])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(opcode.name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            case "TUPLE" | "FROZENSET":
                stack.append(tuple(since_mark()))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = [stack.pop()] if opcode.name == "APPEND" else since_mark()
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = [stack.pop(-2), stack.pop()] if opcode.name == "SETITEM" else since_mark()
                if isinstance(stack[-1], dict):
                    stack[-1].update(zip(items[::2], items[1::2]))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_Opaque(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_Opaque(f"{module}.{name}"))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack.append(_made(stack.pop(), arguments))
            case "BUILD":
                stack.pop()  # attributes (such as the versions of layers), which no tensor needs
            case _:
                raise _Refused(f"it holds the opcode {opcode.name}")
    raise _Refused("it is cut off")


def _storage(reference: Any) -> _Storage:
    kind, name, key, _, numel = reference[:5]
    dtype = DTYPES.get(name.path.removeprefix("torch.")) if isinstance(name, _Opaque) else None
    if kind != "storage" or dtype is None:
        raise _Refused(f"it refers to {reference!r:.80}")
    return _Storage(dtype, str(key), int(numel))


def _made(name: Any, arguments: Any) -> Any:
    """What the few known names give; all others are opaque."""
    match name:
        case _Opaque("collections.OrderedDict"):
            return dict(*arguments)
        case _Opaque("torch._utils._rebuild_tensor_v2"):
            storage, offset, shape, stride = arguments[:4]
            if not isinstance(storage, _Storage):
                raise _Refused("a tensor without numbers")
            return _View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))
        case _Opaque("torch._utils._rebuild_parameter"):
            return arguments[0]
    return _Opaque(getattr(name, "path", ""))
