"""The cache: entries appear whole, are reused, and are made again when damaged."""

import numpy as np
import pytest

from gen_core import atomic
from gen_core.volume_cache import Cache, array_hash, key_of, source_hash


class Maker:
    def __init__(self, value=3.0):
        self.calls, self.value = 0, value

    def __call__(self, out):
        self.calls += 1
        out[:] = self.value
        return {"note": "made"}


def fetch(cache, make, verify=False, key="ab" * 32):
    return cache.fetch(key, lambda: (2, 3, 4), "<f4", make, verify)


def test_an_entry_is_made_once_and_mapped_read_only(tmp_path):
    cache, make = Cache(tmp_path), Maker()
    array, facts = fetch(cache, make)
    again, _ = fetch(Cache(tmp_path), make, verify=True)
    assert make.calls == 1 and (again == 3).all() and facts["note"] == "made"
    assert isinstance(array, np.memmap) and not array.flags.writeable
    assert not [p for p in tmp_path.rglob("*") if atomic.SUFFIX in p.name]


@pytest.mark.parametrize("damage", ["truncate", "flip", "json", "empty"])
def test_a_damaged_entry_is_made_again_with_a_warning(damage, tmp_path):
    cache, make = Cache(tmp_path), Maker()
    fetch(cache, make)
    data, facts = next(tmp_path.rglob("*.npy")), next(tmp_path.rglob("*.json"))
    content = bytearray(data.read_bytes())
    if damage == "truncate":
        data.write_bytes(content[:-10])
    if damage == "flip":
        content[-1] ^= 1
        data.write_bytes(content)
    if damage == "json":
        facts.write_text("{")
    if damage == "empty":
        data.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged.*made again"):
        array, _ = fetch(cache, make, verify=True)
    assert make.calls == 2 and (array == 3).all()


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    def fail(out):
        out[:] = 1
        raise ValueError("no")

    with pytest.raises(ValueError):
        fetch(Cache(tmp_path), fail)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_keys_and_hashes_follow_content(tmp_path):
    assert key_of(a=1, b=[2]) == key_of(b=[2], a=1) != key_of(a=1, b=[3])
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert array_hash(a) == array_hash(np.asfortranarray(a)) != array_hash(a.reshape(3, 2, 4))
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.write_bytes(b"x" * (2 << 20))
    assert source_hash(one) == source_hash(two, tmp_path / "c") == source_hash(two, tmp_path / "c")
    two.write_bytes(b"x" * (2 << 20) + b"y")
    assert source_hash(one) != source_hash(two, tmp_path / "c")


def test_very_large_files_are_hashed_by_their_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("gen_core.volume_cache.WHOLE_FILE", 1 << 20)
    path = tmp_path / "big"
    path.write_bytes(b"a" * (3 << 20))
    first = source_hash(path)
    path.write_bytes(b"a" * (3 << 20) + b"b")
    assert source_hash(path) != first
