"""Tensor files tell when they are not what was written."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from damages import DAMAGES
from safetensors import SafetensorError
from safetensors.torch import save_file

from gen_core import tensor_file
from gen_core.errors import RunError
from gen_core.tensor_file import DamagedFile, read_tensors, write_tensors

TENSORS = {
    "x": torch.arange(24.0).reshape(2, 3, 4),
    "half": torch.arange(5.0).bfloat16(),
    "mask": torch.tensor([[True, False]]),
    "n": torch.tensor(7),
    "none": torch.zeros(0, 3),
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.safetensors"
    write_tensors(path, TENSORS, {"under": [{"class": "CNV"}]})
    return path


def test_tensors_and_words_come_back_and_the_bytes_are_the_same_each_time(file, tmp_path):
    tensors, words = read_tensors(file)
    assert words == {"under": [{"class": "CNV"}]} and tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items())
    write_tensors(tmp_path / "again.safetensors", dict(reversed(TENSORS.items())), words)
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_is_told_with_the_name_of_the_file(file, tmp_path, kind):
    write_tensors(tmp_path / "other", {**TENSORS, "x": TENSORS["x"] + 1}, {})
    sound = file.read_bytes()
    if kind == "of another run":  # the content of one with the header of the other
        other = (tmp_path / "other").read_bytes()
        n = 8 + int.from_bytes(other[:8], "little")
        file.write_bytes(other[:n] + sound[8 + int.from_bytes(sound[:8], "little") :])
    else:
        DAMAGES[kind](file, None)
    with pytest.raises(DamagedFile, match="some.safetensors: (damaged|missing)"):
        read_tensors(file)


def test_any_single_bit_is_noticed(file):
    sound = file.read_bytes()
    for at in range(0, len(sound), 7):
        data = bytearray(sound)
        data[at] ^= 1 << at % 8
        file.write_bytes(data)
        with suppress(DamagedFile):
            tensors, words = read_tensors(file)  # a blank of the header may change: the content has not
            assert words == {"under": [{"class": "CNV"}]}
            assert all(torch.equal(tensors[k], v) for k, v in TENSORS.items())


def test_a_file_without_a_hash_is_taken_as_it_is(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "plain.safetensors")
    tensors, words = read_tensors(tmp_path / "plain.safetensors")
    assert tensors["x"].tolist() == [1, 1] and words == {}


def test_a_disk_that_is_full_is_a_run_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensor_file, "save_file", full)
    with pytest.raises(RunError, match="a.safetensors: cannot be written: .*No space left"):
        write_tensors(tmp_path / "a.safetensors", TENSORS)
    assert list(tmp_path.iterdir()) == []
