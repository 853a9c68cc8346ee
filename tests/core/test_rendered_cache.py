"""The cache of rendered volumes: reuse, damage, worker processes, atomic entries."""

import json
import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from gen_core import rendered_cache
from gen_core.atomic import SUFFIX
from gen_core.rendered_cache import Cache
from gen_core.volume import content_hash

SHAPE, MASKS, N = (1, 3, 7, 5), ("a", "b"), 6


class Renderer:
    def __init__(self):
        self.calls = 0

    def __call__(self, i):
        self.calls += 1
        g = np.random.default_rng(i)
        return g.random(SHAPE, dtype=np.float32), {k: g.random((1, 7, 5)) < 0.5 for k in MASKS}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "entry"


def cache(folder, render=None, workers=1):
    return Cache(folder, SHAPE, MASKS, N, render or Renderer(), workers)


def check(c):
    for i in range(N):
        x, masks, digest = c.read(i)
        truth, mask = Renderer()(i)
        np.testing.assert_array_equal(x, truth)
        assert digest == content_hash(truth)
        for k in MASKS:
            np.testing.assert_array_equal(masks[k], mask[k])


def test_what_is_read_is_what_was_rendered(folder):
    c = cache(folder)
    hashes = c.fill()
    assert hashes == [content_hash(Renderer()(i)[0]) for i in range(N)]
    check(c)


def test_a_filled_cache_is_not_rendered_again(folder):
    cache(folder).fill()
    second = Renderer()
    c = cache(folder, second)
    c.fill()
    check(c)
    assert second.calls == 0


def test_reading_without_filling_fills(folder):
    check(cache(folder))
    assert (folder / "index.json").exists()


def test_a_returned_volume_can_be_changed_without_harm(folder):
    c = cache(folder)
    c.read(0)[0][:] = 0
    check(c)


@pytest.mark.parametrize("name", ["volumes.npy", "masks.npy", "index.json"])
@pytest.mark.parametrize("harm", ["truncate", "empty", "flip", "delete"])
def test_a_damaged_cache_is_rebuilt(folder, name, harm):
    cache(folder).fill()
    path = folder / name
    data = bytearray(path.read_bytes())
    sound = bytes(data)
    if harm == "delete":
        path.unlink()
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[-20] ^= 0xFF
        path.write_bytes(data)
    c = cache(folder)
    check(c)  # right even before it is filled again
    fresh = Renderer()
    cache(folder, fresh).fill()
    assert fresh.calls == 0  # and put back in its place
    assert path.read_bytes() == sound


def test_a_damaged_cache_that_may_not_be_written_is_right_all_the_same(folder, monkeypatch):
    cache(folder).fill()
    data = bytearray((folder / "volumes.npy").read_bytes())
    data[-20] ^= 0xFF
    (folder / "volumes.npy").write_bytes(data)
    usual = Path.open

    def refused(self, mode="r", *more, **named):
        if "+" in mode:
            raise PermissionError
        return usual(self, mode, *more, **named)

    monkeypatch.setattr(Path, "open", refused)
    for _ in range(2):
        check(cache(folder))
    assert (folder / "volumes.npy").read_bytes() == data


def test_a_volume_that_its_index_does_not_tell_of_is_not_put_into_the_cache(folder):
    cache(folder).fill()
    index = json.loads((folder / "index.json").read_text())
    index["hashes"].reverse()
    (folder / "index.json").write_text(json.dumps(index))
    before = (folder / "volumes.npy").read_bytes()
    check(cache(folder))
    assert (folder / "volumes.npy").read_bytes() == before


def test_nothing_is_left_when_rendering_fails(folder):
    def broken(i):
        raise RuntimeError("no light")

    with pytest.raises(RuntimeError, match="no light"):
        cache(folder, broken).fill()
    assert not list(folder.parent.iterdir())


def test_leftovers_of_a_killed_process_are_swept(folder):
    folder.parent.mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)  # its number is free now
    left = folder.with_name(f".{folder.name}{SUFFIX}-{socket.gethostname()}-{child}")
    left.mkdir()
    cache(folder).fill()
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_two_processes_render_the_same(folder, monkeypatch):
    monkeypatch.setattr(rendered_cache, "_PARALLEL_VOXELS", 1)
    calls = []
    c = cache(folder, workers=2)
    c.fill(lambda done, n: calls.append((done, n)))
    assert calls[-1] == (N, N)
    check(c)


def test_a_dying_worker_does_no_harm(folder, monkeypatch):
    monkeypatch.setattr(rendered_cache, "_PARALLEL_VOXELS", 1)
    parent = os.getpid()

    def render(i):
        if os.getpid() != parent and i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return Renderer()(i)

    c = cache(folder, render, workers=2)
    c.fill()
    check(c)
