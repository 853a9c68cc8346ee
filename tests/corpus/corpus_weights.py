"""Malformed checkpoints, published weights, and weights of somebody else."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator

import fuzz_seeds as seeds
from corpus_archives import archive_of, deflated_zeros, zip_of
from corpus_case import DATA, RUN, Case


def checkpoints() -> Iterator[Case]:
    def signed(state: object) -> bytes:
        if isinstance(state, dict):
            state = {**state, "sha256": hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()}
        return json.dumps(state).encode()

    def bad(name: str, state: bytes, tensors: bytes | None, *says: str) -> Case:
        files = {"state.json": state} | ({} if tensors is None else {"model.safetensors": tensors})
        return Case(f"checkpoint-{name}", files, ("load-checkpoint", "{}"), RUN, says)

    def holding(tensors: bytes) -> bytes:
        return signed({"format": 1, "files": {"model.safetensors": hashlib.sha256(tensors).hexdigest()}})

    good = seeds.safetensors()
    state = holding(good)
    yield bad("state-empty", b"", good, "state.json")
    yield bad("state-cut", state[:-5], good, "state.json")
    yield bad("state-binary", bytes(range(256)), good, "state.json")
    yield bad("state-deep", b"[" * 200_000, good, "state.json")
    yield bad("state-list", b"[]", good, "state.json")
    yield bad("state-unsigned", b'{"format": 1, "files": {}}', good, "SHA-256")
    yield bad("state-no-format", signed({"files": {}}), good, "format")
    yield bad("state-format", signed({"format": 9, "files": {}}), good, "format 9")
    yield bad("state-no-files", signed({"format": 1}), good, "files")
    yield bad("state-files-list", signed({"format": 1, "files": [1]}), good, "files")
    yield bad("state-path", signed({"format": 1, "files": {"../secret": "00"}}), good, "files")
    yield bad("state-absolute", signed({"format": 1, "files": {"/etc/passwd": "00"}}), good, "files")
    yield bad("tensors-absent", state, None, "model.safetensors", "missing")
    yield bad("tensors-changed", state, good[:-1] + b"x", "model.safetensors", "SHA-256")
    entry = lambda dtype, shape, ends: {"dtype": dtype, "shape": shape, "data_offsets": ends}
    for name, tensors in {
        "empty": b"",
        "cut": good[:-1],
        "cut-header": good[:20],
        "long-header": struct.pack("<Q", 2**63) + good[8:],
        "header-beyond": struct.pack("<Q", 10_000) + good[8:],
        "no-json": struct.pack("<Q", 5) + b"nope!" + bytes(9),
        "deep": struct.pack("<Q", 90_000) + b'{"a":' * 18_000,
        "overlap": seeds.safetensors(b=entry("I64", [2], [0, 16])),
        "hole": seeds.safetensors(b=entry("I64", [1], [32, 40])),
        "beyond": seeds.safetensors(b=entry("I64", [2000], [24, 16024])),
        "backwards": seeds.safetensors(b=entry("I64", [2], [40, 24])),
        "negative": seeds.safetensors(b=entry("I64", [-2], [24, 40])),
        "overflow": seeds.safetensors(b=entry("I64", [2**62, 2**62], [24, 40])),
        "type": seeds.safetensors(b=entry("OBJECT", [2], [24, 40])),
        "shape": seeds.safetensors(b=entry("I64", [3], [24, 40])),
    }.items():
        yield bad(f"tensors-{name}", holding(tensors), tensors, "model.safetensors")

    def record(name: str, data: bytes, tensors: bytes, *says: str) -> Case:
        files = {"weights.json": data, "weights.safetensors": tensors}
        return Case(f"weights-{name}", files, ("load-weights", "{}"), RUN, says)

    told = lambda tensors: json.dumps({"format": 1, "sha256": hashlib.sha256(tensors).hexdigest()}).encode()
    yield record("empty", b"", good, "weights.json")
    yield record("list", b"[]", good, "weights.json")
    yield record("deep", b"[" * 200_000, good, "weights.json")
    yield record("no-sum", b"{}", good, "weights.json", "sha256")
    yield record("changed", told(good), good[:-1] + b"x", "weights.safetensors", "SHA-256")
    yield record("cut", told(good[:-1]), good[:-1], "weights.safetensors")
    yield Case("weights-absent", {"weights.json": b"{}"}, ("load-weights", "{}"), 3, ("weights.safetensors",))


def foreign() -> Iterator[Case]:
    """Weights of somebody else, which are pickles: nothing in them runs."""

    def bad(name: str, data: bytes, *says: str) -> Case:
        return Case(f"torch-{name}", {"w.pth": data}, ("load-foreign", "{}/w.pth"), DATA, ("w.pth", *says))

    good, bare = seeds.torch_file(), seeds.torch_file(True)
    for share in (0.0, 0.1, 0.5, 0.9):
        yield bad(f"cut-{round(100 * share)}", good[: int(share * len(good))])
        yield bad(f"bare-cut-{round(100 * share)}", bare[: int(share * len(bare))])
    yield bad("zeros", bytes(999))
    yield bad("text", b"no weights\n" * 99)
    hostile = b"cos\nsystem\n(S'touch hostile'\ntR."
    yield bad("pickle", hostile)
    yield bad("pickle-in-zip", zip_of(("a/data.pkl", hostile), ("a/byteorder", b"little")))
    yield bad("no-index", zip_of(("a/readme", b"")))
    yield bad("two-indexes", zip_of(("a/data.pkl", b"."), ("b/data.pkl", b".")))
    yield bad("deep", zip_of(("a/data.pkl", b"\x80\x02" + b"(" * 300_000 + b"t" * 300_000 + b".")))
    yield bad("long-text", zip_of(("a/data.pkl", b"\x80\x02X\xff\xff\xff\x7fabc.")))
    yield bad("long-number", zip_of(("a/data.pkl", b"\x80\x02\x8b\xff\xff\xff\x7fabc.")))
    yield bad("index-lies", archive_of(("a/data.pkl", zlib.compress(b"\x80\x02")[2:-4], 9, 2**50, 0)))
    index = deflated_zeros(1500)
    yield bad("index-bomb", archive_of(("a/data.pkl", index, len(index), 1500 << 20, 0)))
