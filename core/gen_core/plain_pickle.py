"""A pickle stream read as data: nothing it names is looked up, nothing it calls is made.

A pickle is a program. The opcodes that dictionaries, lists, numbers, words and tensors consist of are followed here;
names, and what is made by calling them, become opaque values, but for the three of which a state dict consists:
ordered dictionaries, tensors (as views over storages), parameters. Any other opcode is refused.

Source: Python's pickletools (the opcodes); torch/serialization.py (what tensors look like in a stream).
"""

from __future__ import annotations

import pickletools
from typing import Any

import torch
from attrs import frozen

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Refused(Exception):
    """What a file holds that no state dict of tensors needs, in words."""


@frozen
class Opaque:
    """An object that is named or made in the stream; it is never looked up nor made."""

    path: str = ""


@frozen
class Storage:
    """A run of numbers kept elsewhere in the file."""

    dtype: torch.dtype
    key: str
    numel: int


@frozen
class View:
    """A tensor as offset, shape and strides over a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_plain(stream: Any) -> Any:
    """The next value of a pickle stream, built from plain data alone; the stream is left behind it.

    Raises: Refused, or whatever a damaged stream ends in (LookupError, ValueError, TypeError, AttributeError).
    """
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
                stack.append(Opaque(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(Opaque(f"{module}.{name}"))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack.append(_made(stack.pop(), arguments))
            case "BUILD":
                stack.pop()  # attributes (such as the versions of layers), which no tensor needs
            case _:
                raise Refused(f"it holds the opcode {opcode.name}")
    raise Refused("it is cut off")


def _storage(reference: Any) -> Storage:
    kind, name, key, _, numel = reference[:5]
    dtype = DTYPES.get(name.path.removeprefix("torch.")) if isinstance(name, Opaque) else None
    shared = len(reference) > 5 and reference[5] is not None  # a view of another storage: torch < 0.4
    if kind != "storage" or dtype is None or shared or int(numel) < 0:
        raise Refused(f"it refers to {reference!r:.80}")
    return Storage(dtype, str(key), int(numel))


def _made(name: Any, arguments: Any) -> Any:
    """What the few known names give; all others are opaque."""
    match name:
        case Opaque("collections.OrderedDict"):
            return dict(*arguments)
        case Opaque("torch._utils._rebuild_tensor_v2"):
            storage, offset, shape, stride = arguments[:4]
            if not isinstance(storage, Storage):
                raise Refused("a tensor without numbers")
            return View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))
        case Opaque("torch._utils._rebuild_parameter"):
            return arguments[0]
    return Opaque(getattr(name, "path", ""))
