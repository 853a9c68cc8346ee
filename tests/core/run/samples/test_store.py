"""Samples read from their chunks: by index, without the rejected, joined to other splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gen_core.run.samples.drawn import Drawn, Under
from gen_core.run.samples.store import (
    Joined,
    SampleStore,
    chunk_path,
    chunk_problem,
    read_chunk,
    stored_chunks,
    write_chunk,
)


@pytest.fixture
def step(tmp_path):
    """Seven volumes in chunks of three; every voxel of volume i is i."""
    x = torch.arange(7.0)[:, None, None, None, None].expand(7, 1, 2, 3, 4).contiguous()
    (tmp_path / "chunks").mkdir()
    for chunk, part in enumerate(x.split(3)):
        save_file({"x": part.contiguous(), "z": part.clone()}, chunk_path(tmp_path, chunk))
    return tmp_path


def test_volumes_come_in_rising_index_across_chunks(step):
    store = SampleStore(step, 3)
    assert [s.id for s in store] == [f"sample-{i:06d}" for i in range(7)]
    assert all(np.all(s.x == i) and s.x.shape == (1, 2, 3, 4) for i, s in enumerate(store))


def test_rejected_samples_are_left_out_and_the_rest_keep_their_ids(step):
    store = SampleStore(step, 3, frozenset({"sample-000000", "sample-000004"}))
    assert [int(s.x.max()) for s in store] == [1, 2, 3, 5, 6]
    assert store[3].id == "sample-000005"


def test_joined_splits_follow_each_other(step):
    store = SampleStore(step, 3)
    both = Joined(store, SampleStore(step, 3, frozenset({"sample-000000"})))
    assert len(both) == 13 and both[7].id == "sample-000001" and both.view(12, 5).id == "sample-000006"
    with pytest.raises(IndexError):
        both[13]


def test_chunks_are_read_by_their_number_beyond_five_digits(tmp_path):
    numbers = [100_000, 7, 99_999]
    for number in numbers:
        path = chunk_path(tmp_path, number)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert [number for number, _ in stored_chunks(tmp_path)] == [7, 99_999, 100_000]


def test_a_whole_chunk_of_another_step_or_place_is_not_taken(tmp_path):
    (tmp_path / "chunks").mkdir()
    x = torch.rand(2, 1, 2, 3, 4)
    write_chunk(tmp_path, Drawn(3, x[:, :, :, :1], x, {}, [Under(told={"class": "CNV"}), Under()]), "f00d")
    path, elsewhere = chunk_path(tmp_path, 3), chunk_path(tmp_path, 4)
    path.rename(elsewhere)
    assert chunk_problem(elsewhere, 4, "f00d") == f"{elsewhere}: of another step or place"
    elsewhere.rename(path)
    assert chunk_problem(path, 3, "beef") == f"{path}: of another step or place"
    assert chunk_problem(path, 3, "f00d") == ""
    found, under = read_chunk(path)
    assert torch.equal(found, x) and [u.told for u in under] == [{"class": "CNV"}, {}]
    path.write_bytes(path.read_bytes()[:-1])
    assert chunk_problem(path, 3, "f00d").startswith(f"{path}: damaged")
