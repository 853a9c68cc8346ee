"""Checkpoints are whole or passed over; weights load strictly."""

from __future__ import annotations

import errno
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from gen_core import atomic
from gen_core.engine import checkpoint as ckpt
from gen_core.errors import MissingError, RunError

TENSORS = {
    "weights": {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)},
    "ema": {},
    "optimizer-main": {"w/exp_avg": torch.zeros(2, 3)},
}


def _save(folder, step, **state):
    return ckpt.save_checkpoint(folder / ckpt.checkpoint_name(step), TENSORS, {"step": step, **state})


def test_what_is_saved_is_read_back(tmp_path):
    path = _save(tmp_path, 12, extra_state={"p": 0.1, "list": [1, None]})
    assert sorted(p.name for p in path.iterdir()) == [
        "optimizer-main.safetensors", "state.json", "weights.safetensors"
    ]  # fmt: skip
    found = ckpt.open_checkpoint(path)
    assert found.state["extra_state"] == {"p": 0.1, "list": [1, None]}
    assert torch.equal(found.tensors("weights")["w"], TENSORS["weights"]["w"])
    assert found.tensors("weights")["n"].dtype == torch.int64 and found.tensors("ema") == {}
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000012"]  # nothing beside


def test_views_and_shared_tensors_can_be_saved(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base, "b": base, "c": base[1], "d": base.T, "e": torch.zeros(0), "f": torch.zeros(0)}
    path = ckpt.save_checkpoint(tmp_path / "step-00000001", {"weights": tensors}, {})
    back = ckpt.open_checkpoint(path).tensors("weights")
    assert all(torch.equal(back[k], v) for k, v in tensors.items())


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-20])


def _zero(file):
    file.write_bytes(bytes(file.stat().st_size))


def _flip(file):
    data = bytearray(file.read_bytes())
    data[-2] ^= 0x10
    file.write_bytes(data)


def _remove(file):
    file.unlink()


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer-main.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [_truncate, _zero, _flip, _remove])
def test_any_damage_falls_back_to_the_one_before_and_names_the_file(tmp_path, damage, name):
    for step in (10, 20):
        _save(tmp_path, step)
    damage(tmp_path / "step-00000020" / name)
    found, problems = ckpt.newest_checkpoint(tmp_path)
    assert found.state["step"] == 10
    assert len(problems) == 1 and f"step-00000020/{name}" in problems[0]


def test_a_changed_number_in_state_json_is_noticed(tmp_path):
    path = _save(tmp_path, 10) / "state.json"
    path.write_text(path.read_text().replace('"step": 10', '"step": 11'))
    with pytest.raises(ckpt.DamagedCheckpoint, match="state.json: its content does not match"):
        ckpt.open_checkpoint(path.parent)


def test_an_empty_folder_and_no_folder_are_no_checkpoint(tmp_path):
    assert ckpt.newest_checkpoint(tmp_path / "none") == (None, [])
    (tmp_path / "step-00000001").mkdir()
    found, problems = ckpt.newest_checkpoint(tmp_path)
    assert found is None and "state.json: missing" in problems[0]


def test_two_stay_and_the_best_they_know_of(tmp_path):
    for step, best in ((10, 10), (20, 10), (30, 25), (40, 40)):
        if step == best:
            ckpt.save_checkpoint(tmp_path / f"best-{step:08d}", TENSORS, {"step": step})
        if step == 30:
            ckpt.save_checkpoint(tmp_path / "best-00000025", TENSORS, {"step": 25})
        ckpt.prune(tmp_path, _save(tmp_path, step, best={"name": f"best-{best:08d}"}))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best-00000025", "best-00000040", "step-00000030", "step-00000040"
    ]  # fmt: skip


def test_damaged_ones_newer_than_the_newest_are_removed(tmp_path):
    for step in (10, 20, 30):
        _save(tmp_path, step)
    _truncate(tmp_path / "step-00000030" / "weights.safetensors")
    ckpt.prune(tmp_path, _save(tmp_path, 25))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000020", "step-00000025"]


def test_a_full_disk_is_a_run_error_and_leaves_nothing_half(tmp_path, monkeypatch):
    _save(tmp_path, 10)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    for target, name in ((ckpt, "save_file"), (atomic, "sync_file"), (atomic.os, "rename")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, full)
            with pytest.raises(RunError, match="step-00000020: No space left on device"):
                _save(tmp_path, 20)
        assert [p.name for p in tmp_path.iterdir()] == ["step-00000010"]
    ckpt.open_checkpoint(tmp_path / "step-00000010")


def test_the_same_step_can_be_saved_again_over_a_damaged_one(tmp_path):
    _truncate(_save(tmp_path, 10) / "weights.safetensors")
    assert ckpt.open_checkpoint(_save(tmp_path, 10)).state["step"] == 10


def test_weights_round_trip_with_extra_state_and_header(tiny, tmp_path):
    one, two = tiny.Tiny(seed=1), tiny.Tiny(seed=2)
    one.epochs, one.counts[0] = [0, 1], 7
    path = ckpt.write_weights(one, tmp_path, {"step": 5}, {"recipe": "r", "versions": {"codec": 2}})
    record = ckpt.load_weights(two, tmp_path)
    assert record["step"] == 5 and record["header"]["versions"] == {"codec": 2}
    assert two.epochs == [0, 1]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))
    first = path.read_bytes()
    ckpt.write_weights(one, tmp_path, {"step": 5}, {"versions": {"codec": 2}, "recipe": "r"})
    assert path.read_bytes() == first  # the same weights give the same bytes


def test_weights_that_do_not_fit_are_named(tiny, tmp_path):
    one = tiny.Tiny()
    ckpt.write_weights(one, tmp_path, {})
    one.encoder = torch.nn.Linear(5, 4)
    one.register_buffer("fresh", torch.zeros(1))
    del one.critic
    with pytest.raises(RunError) as caught:
        ckpt.load_weights(one, tmp_path)
    said = str(caught.value)
    assert "missing: fresh" in said and "unexpected: critic.bias, critic.weight" in said
    assert "another shape or type: encoder.weight, encoder.bias" in said


def test_init_takes_what_fits_and_names_the_rest(tiny, tmp_path):
    one, two = tiny.Tiny(seed=1), tiny.Tiny(seed=2)
    one.epochs = [1, 2, 3]
    ckpt.write_weights(one, tmp_path, {})
    two.critic = torch.nn.Linear(5, 2)
    two.norm = torch.nn.InstanceNorm1d(3, affine=True)
    before = two.critic.weight.detach().clone()
    said = ckpt.init_weights(two, tmp_path)
    assert torch.equal(two.encoder.weight, one.encoder.weight) and torch.equal(two.critic.weight, before)
    assert two.epochs == []
    names = [line.split(":")[0] for line in said]
    assert names == [
        "norm.num_batches_tracked", "norm.running_mean", "norm.running_var", "critic.weight", "critic.bias"
    ]  # fmt: skip
    assert "(1, 5) there, (2, 5) here" in said[3]


def test_init_from_a_stranger_is_refused(tiny, tmp_path):
    ckpt.write_weights(tiny.Tiny(), tmp_path, {})
    with pytest.raises(RunError, match="no weight fits this model"):
        ckpt.init_weights(torch.nn.Conv3d(1, 1, 1), tmp_path)


@pytest.mark.parametrize("damage", [_truncate, _zero, _flip])
def test_damaged_weights_are_a_run_error(tiny, tmp_path, damage):
    damage(ckpt.write_weights(tiny.Tiny(), tmp_path, {}))
    with pytest.raises(RunError, match="weights.safetensors: damaged"):
        ckpt.load_weights(tiny.Tiny(), tmp_path)


def test_absent_weights_are_missing_and_a_broken_record_is_named(tiny, tmp_path):
    with pytest.raises(MissingError, match="weights.safetensors: no fitted weights"):
        ckpt.load_weights(tiny.Tiny(), tmp_path)
    ckpt.write_weights(tiny.Tiny(), tmp_path, {})
    (tmp_path / "weights.json").write_text("{")
    with pytest.raises(RunError, match="weights.json: unreadable"):
        ckpt.load_weights(tiny.Tiny(), tmp_path)


def test_no_pickle_is_written(tiny, tmp_path):
    ckpt.write_weights(tiny.Tiny(), tmp_path, {})
    _save(tmp_path, 1)
    for file in tmp_path.rglob("*"):
        if file.suffix == ".safetensors":
            assert load_file(file)
        elif file.is_file():
            assert json.loads(file.read_text())
    shutil.rmtree(tmp_path)
