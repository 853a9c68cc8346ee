"""Tensors from a weights file of somebody else: safetensors, or a state dict that torch.save wrote.

Files of torch.save are pickles, programs that a reader runs. Here nothing runs: the few opcodes that a state dict of
tensors consists of are read as data, the only names known are those of tensors, storages and ordered dictionaries, and
anything else is refused. Both layouts are read: the zip archive (torch >= 1.6), and the bare stream before it.

Source: Python's pickletools (the opcodes); torch/serialization.py (the two layouts).
"""

from __future__ import annotations

import hashlib
import io
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gen_core.errors import DataError, MissingError

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first two values of the bare stream


class _Refused(Exception):
    """What a file holds that no state dict of tensors needs, in words."""


@frozen
class _Name:
    """A global the stream refers to; it is never looked up."""

    path: str


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
    _Refused,
    SafetensorError,
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
)


def read_tensors(path: str | Path, sha256: str, key: str) -> dict[str, Tensor]:
    """Name -> tensor of the weights file that a recipe's `key` names, after its hash was verified.

    Raises: MissingError when there is no such file or it is another one; DataError when it holds no state dict.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingError(f"{key} = '{path}': no such file; nothing is downloaded, so it must be put there by hand")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise MissingError(f"{key} = '{path}': SHA-256 {found}, expected {sha256}; it is damaged or another file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return _zipped(path) if zipfile.is_zipfile(path) else _bare(path)
    except BROKEN as error:
        raise DataError(f"{key} = '{path}': no state dict of tensors: {error}") from error


def _zipped(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        (index,) = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
        top = index.removesuffix("data.pkl")
        if f"{top}byteorder" in archive.namelist() and archive.read(f"{top}byteorder") != b"little":
            raise _Refused("its numbers are big-endian")
        read = lambda storage: archive.read(f"{top}data/{storage.key}")
        return _tensors(_value(io.BytesIO(archive.read(index))), read)


def _bare(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        if (_value(file), _value(file)) != (MAGIC, PROTOCOL):
            raise _Refused("it was not written by torch.save")
        if not _value(file).get("little_endian"):
            raise _Refused("its numbers are big-endian")
        state, keys = _value(file), _value(file)
        widths = {view.storage.key: view.storage.dtype.itemsize for view in state.values() if isinstance(view, _View)}
        content = {}
        for key in keys:
            numel = int.from_bytes(file.read(8), "little")
            content[key] = file.read(numel * widths[key])
        return _tensors(state, lambda storage: content[storage.key])


def _tensors(state: Any, read: Callable[[_Storage], bytes]) -> dict[str, Tensor]:
    """The tensors of a state dict, each with memory of its own."""
    if not isinstance(state, dict) or not state:
        raise _Refused("it holds something else")
    storages: dict[str, Tensor] = {}
    found = {}
    for name, view in state.items():
        if not isinstance(view, _View):
            raise _Refused(f"'{name}' is no tensor")
        storage = view.storage
        if storage.key not in storages:
            content = read(storage)
            if len(content) != storage.numel * storage.dtype.itemsize:
                raise _Refused(f"'{name}' is cut off")
            storages[storage.key] = torch.frombuffer(bytearray(content), dtype=storage.dtype)
        found[name] = storages[storage.key].as_strided(view.shape, view.stride, view.offset).clone()
    return found


def _value(stream: Any) -> Any:
    """The next value of a pickle stream, built from plain data alone; the stream is left behind it."""
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
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINFLOAT":
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(opcode.name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items = since_mark()
                stack[-1].extend(items)
            case "SETITEM":
                key, value = stack.pop(-2), stack.pop()
                stack[-1][key] = value
            case "SETITEMS":
                items = since_mark()
                stack[-1].update(zip(items[::2], items[1::2]))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_Name(argument.replace(" ", ".")))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_made(stack.pop(), arguments))
            case "BUILD":
                stack.pop()  # attributes of the dictionary (versions of layers), which no tensor needs
            case _:
                raise _Refused(f"it holds the opcode {opcode.name}")
    raise _Refused("it is cut off")


def _storage(reference: Any) -> _Storage:
    kind, name, key, _, numel = reference[:5]
    dtype = DTYPES.get(name.path.removeprefix("torch.")) if isinstance(name, _Name) else None
    if kind != "storage" or dtype is None or (len(reference) > 5 and reference[5] is not None):
        raise _Refused(f"it refers to {reference!r:.80}")
    return _Storage(dtype, str(key), int(numel))


def _made(name: Any, arguments: tuple[Any, ...]) -> Any:
    """What the few known names give; all others are refused."""
    match name:
        case _Name("collections.OrderedDict"):
            return dict(*arguments)
        case _Name("torch._utils._rebuild_tensor_v2"):
            storage, offset, shape, stride = arguments[:4]
            if not isinstance(storage, _Storage):
                raise _Refused("a tensor without numbers")
            return _View(storage, offset, shape, stride)
        case _Name("torch._utils._rebuild_parameter"):
            return arguments[0]
    raise _Refused(f"it calls {getattr(name, 'path', name)}")
