"""Weights of somebody else: both layouts of torch.save, safetensors, and files that are refused without running."""

import hashlib
import os

import pytest
import torch
from safetensors.torch import save_file

from gen_core.errors import DataError, MissingError
from gen_features.weights_file import read_tensors


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
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
        "small": torch.arange(6, dtype=torch.uint8),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["dict", "ordered", "parameters"])
def test_what_torch_saved_is_read_back(state, tmp_path, zipped, kind):
    path = tmp_path / "weights.pth"
    if kind == "ordered":  # as a module's state dict, with the versions of its layers
        module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
        state = module.state_dict()
    elif kind == "parameters":
        state = {"w": torch.nn.Parameter(torch.randn(3, 2)), "v": torch.randn(300, 5)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    found = read_tensors(path, sha(path), "weights")
    assert list(found) == list(state)
    for name, value in state.items():
        assert torch.equal(found[name], value.detach()) and found[name].dtype == value.dtype, name
        assert found[name].untyped_storage().nbytes() == value.numel() * value.element_size()


def test_safetensors_are_read(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": state["a.weight"], "count": state["count"]}, path)
    found = read_tensors(path, sha(path), "weights")
    assert torch.equal(found["a"], state["a.weight"]) and int(found["count"]) == 3


class Bomb:
    """Unpickled, it would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_file_with_a_call_inside_is_refused_and_the_call_not_made(tmp_path, zipped, inside):
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"w": Bomb(trace)} if inside else Bomb(trace), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match="it calls (posix|nt).mkdir"):
        read_tensors(path, sha(path), "weights")
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("value", [[torch.ones(2)], {"w": 3}, {}, torch.ones(3)])
def test_files_that_hold_something_else_are_refused(tmp_path, value, zipped):
    path = tmp_path / "other.pth"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match="no state dict of tensors"):
        read_tensors(path, sha(path), "weights")


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x80\x02]q\x00.", b"\x80\x02K\x01"])
def test_garbage_is_one_line(tmp_path, content):
    for name in ("garbage.pth", "garbage.safetensors"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"weights = '.*{name}': no state dict of tensors"):
            read_tensors(path, sha(path), "weights")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_off_anywhere_is_one_line(state, tmp_path, zipped):
    whole = tmp_path / "whole.pth"
    torch.save(state, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    for share in (0.05, 0.3, 0.6, 0.97):
        path = tmp_path / "cut.pth"
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match="no state dict of tensors"):
            read_tensors(path, sha(path), "weights")


def test_absent_and_other_files_are_missing_weights(tmp_path):
    with pytest.raises(MissingError, match="nothing is downloaded") as caught:
        read_tensors(tmp_path / "absent.pth", "0" * 64, "[features] inception-v3: weights")
    assert caught.value.exit_code == 3 and "[features] inception-v3: weights = " in str(caught.value)
    path = tmp_path / "other.pth"
    path.write_bytes(b"other")
    with pytest.raises(MissingError, match=f"SHA-256 {sha(path)}, expected {'0' * 64}"):
        read_tensors(path, "0" * 64, "weights")
