"""Weights files: what torch.save and safetensors wrote is read back, nothing in a file runs, misfits are named."""

import hashlib
import io
import os
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gen_core.errors import DataError, MissingError
from gen_core.foreign_weights import fill, read_state


@pytest.fixture
def state():
    g = torch.Generator().manual_seed(0)
    shared = torch.randn(4, 5, generator=g)
    return {
        "a.weight": torch.randn(2, 3, 4, generator=g),
        "a.transposed": torch.randn(7, 3, generator=g).T,
        "b.view": shared[1:3, 2:],
        "b.whole": shared,
        "count": torch.tensor(3),
        "half": torch.randn(5, generator=g).half(),
        "none": torch.empty(0, 3),
    }


def same(found, state):
    assert list(found) == list(state)
    for name, value in state.items():
        assert torch.equal(found[name], value.detach()) and found[name].dtype == value.dtype, name


def repacked(path, change):
    """The zip archive `path` with `change(name, content) -> content or None` applied, stored as torch does."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, old in content.items():
            new = change(name, old)
            if new is not None:
                archive.writestr(name, new)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved_is_read_back_and_owns_its_memory(state, tmp_path, zipped):
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    found = read_state(tmp_path / "w.pt", "", "weights")
    same(found, state)
    assert found["b.view"].untyped_storage().nbytes() == 6 * 4


@pytest.mark.parametrize("zipped", [True, False])
def test_a_module_s_state_dict_is_read_back(tmp_path, zipped):
    module = nn.Sequential(nn.Conv3d(2, 3, 3), nn.BatchNorm3d(3))
    torch.save(module.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    same(read_state(tmp_path / "w.pth", "", "weights"), module.state_dict())


@pytest.mark.parametrize("zipped", [True, False])
def test_parameters_are_read_back_as_tensors(tmp_path, zipped):
    state = {"w": nn.Parameter(torch.randn(3, 2)), "v": torch.randn(300, 5)}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    same(read_state(tmp_path / "w.pth", "", "weights"), state)


def test_safetensors_are_read_back(state, tmp_path):
    state = {k: v.contiguous().clone() for k, v in state.items()}
    save_file(state, tmp_path / "w.safetensors")
    found = read_state(tmp_path / "w.safetensors", "", "weights")
    same({k: found[k] for k in state}, state)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_state_dict_of_a_training_checkpoint_is_found(state, tmp_path, zipped):
    layout = {"_use_new_zipfile_serialization": zipped}
    network = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 7, "loss": 0.5, "unet_state_dict": state, "optimizer": optimizer.state_dict(), "on": True}
    torch.save(checkpoint | {"scale_factor": torch.tensor(0.9)}, tmp_path / "w.pt", **layout)
    same(read_state(tmp_path / "w.pt", "", "weights"), state)
    torch.save(checkpoint | {"ema": {"a": torch.ones(2)}}, tmp_path / "w.pt", **layout)
    with pytest.raises(DataError, match=r"name one of its state dicts: \['ema', 'unet_state_dict'\]"):
        read_state(tmp_path / "w.pt", "", "weights")
    same(read_state(tmp_path / "w.pt", "", "weights", entry="ema"), {"a": torch.ones(2)})
    with pytest.raises(DataError, match="its entry 'vae' is none; there are"):
        read_state(tmp_path / "w.pt", "", "weights", entry="vae")


def test_the_prefix_of_several_gpus_is_dropped(tmp_path):
    torch.save({"module.a": torch.ones(2), "module.b.module.c": torch.zeros(3)}, tmp_path / "w.pt")
    assert list(read_state(tmp_path / "w.pt", "", "weights")) == ["a", "b.module.c"]


class Bomb:
    """Unpickled, it would make a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_runs(tmp_path, zipped):
    layout = {"_use_new_zipfile_serialization": zipped}
    torch.save({"state": {"a": torch.ones(2)}, "args": Bomb(tmp_path / "made")}, tmp_path / "w.pt", **layout)
    assert torch.equal(read_state(tmp_path / "w.pt", "", "weights")["a"], torch.ones(2))
    torch.save({"a": torch.ones(2), "b": Bomb(tmp_path / "made")}, tmp_path / "w.pt", **layout)
    with pytest.raises(DataError, match="holds something else"):
        read_state(tmp_path / "w.pt", "", "weights")
    assert not (tmp_path / "made").exists()


def test_the_hash_is_asked_in_either_case(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"a": torch.ones(2)}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_state(path, sha256.upper(), "weights")
    with pytest.raises(MissingError, match=r"\[codec\] weights = '.*w.pt': SHA-256 .*, expected 00ff"):
        read_state(path, "00ff", "[codec] weights")
    with pytest.raises(MissingError, match="gone.pt': no such file; nothing is downloaded"):
        read_state(tmp_path / "gone.pt", "", "weights")


def _without_numbers(path):
    repacked(path, lambda name, old: None if "/data/" in name else old)


def _cut_numbers(path):
    repacked(path, lambda name, old: old[:-4] if "/data/" in name else old)


def _cut_index(path):
    repacked(path, lambda name, old: old[:40] if name.endswith("data.pkl") else old)


def _packed(path):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, old in content.items():
            archive.writestr(name, old)


def _halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _script(path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}.")
        archive.writestr("w/constants.pkl", b"\x80\x02}.")
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without_numbers, "no state dict of tensors"),
        (_cut_numbers, "cut off or packed"),
        (_packed, "cut off or packed"),
        (_cut_index, "no state dict of tensors"),
        (_halved, "no state dict of tensors"),
        (_script, "TorchScript program"),
        (lambda path: path.write_bytes(b""), "no state dict of tensors"),
        (lambda path: torch.save(torch.ones(3), path), "holds no dictionary"),
        (lambda path: torch.save({}, path), "holds something else"),
        (lambda path: path.write_bytes(b"no weights at all"), "no state dict of tensors"),
        (lambda path: path.write_bytes(b"\x80\x02]q\x00.\x80\x02]q\x00."), "not written by torch.save"),
        (lambda path: path.write_bytes(b"\x80\x02K\x01"), "no state dict of tensors"),
    ],
)
def test_damaged_and_foreign_files_are_refused_in_one_line(state, tmp_path, damage, said):
    path = tmp_path / "w.pt"
    torch.save(state, path)
    damage(path)
    with pytest.raises(DataError, match=said) as error:
        read_state(path, "", "weights")
    assert "w.pt" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_off_anywhere_is_one_line(state, tmp_path, zipped):
    whole, path = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save(state, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    for share in (0.05, 0.3, 0.6, 0.97):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match="no state dict of tensors"):
            read_state(path, "", "weights")


def test_a_view_larger_than_its_numbers_allocates_nothing(tmp_path):
    torch.save({"a": torch.zeros(1).expand(2**40)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match="'a' is larger than its numbers"):
        read_state(tmp_path / "w.pt", "", "weights")


def test_a_safetensors_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="no state dict"):
        read_state(tmp_path / "w.safetensors", "", "weights")


# Filling a network


def test_a_network_is_filled_wholly_or_not_at_all():
    network, other = nn.Linear(2, 3), nn.Linear(2, 3)
    fill(network, other.state_dict(), "weights")
    assert torch.equal(network.weight, other.weight) and torch.equal(network.bias, other.bias)
    before = network.weight.clone()
    with pytest.raises(DataError, match="no tensor 'bias'"):
        fill(network, {"weight": torch.ones(3, 2)}, "weights")
    with pytest.raises(DataError, match=r"'bias' is \(4,\) in the file, \(3,\) by the settings"):
        fill(network, {"weight": torch.ones(3, 2), "bias": torch.ones(4)}, "weights")
    with pytest.raises(DataError, match=r"the file's 'more' \(1 such\) has no place"):
        fill(network, {"weight": torch.ones(3, 2), "bias": torch.ones(3), "more": torch.ones(1)}, "weights")
    assert torch.equal(network.weight, before)


def test_on_the_meta_device_names_and_shapes_are_compared(tmp_path):
    torch.save({"weight": torch.ones(3, 2), "bias": torch.ones(3)}, tmp_path / "w.pt")
    with torch.device("meta"):
        network = nn.Linear(2, 3)
        state = read_state(tmp_path / "w.pt", "", "weights")
        fill(network, state, "weights")
        with pytest.raises(DataError, match="in the file"):
            fill(nn.Linear(2, 4), state, "weights")
    assert network.weight.is_meta and not state["weight"].is_meta
