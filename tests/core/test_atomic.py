"""Files are whole or absent, folders are flushed, leftovers are swept."""

from __future__ import annotations

import errno
import json
import os

import pytest

from gen_core import atomic


@pytest.fixture
def order(monkeypatch):
    """The flushes and renames that are done, as ("fsync", name) and ("rename", name), in order."""
    done, fsync, replace, rename = [], os.fsync, os.replace, os.rename
    name_of = lambda fd: os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(("fsync", name_of(fd))), fsync(fd)))
    moved = lambda how: lambda a, b: (done.append(("rename", os.path.basename(b))), how(a, b))
    monkeypatch.setattr(os, "replace", moved(replace))
    monkeypatch.setattr(os, "rename", moved(rename))
    return done


def test_a_file_is_flushed_renamed_and_its_folder_flushed_in_this_order(tmp_path, order):
    atomic.write_text(tmp_path / "a.json", "{}")
    beside = f".a.partial{os.getpid()}.json"
    assert order == [("fsync", beside), ("rename", "a.json"), ("fsync", tmp_path.name)]
    assert os.listdir(tmp_path) == ["a.json"]


def test_every_new_folder_is_flushed_in_the_one_above(tmp_path, order):
    atomic.make_folder(tmp_path / "a" / "b" / "c")
    assert order == [("fsync", tmp_path.name), ("fsync", "a"), ("fsync", "b")]
    atomic.make_folder(tmp_path / "a" / "b")
    assert len(order) == 3, "what is there needs no flush"


def test_a_folder_is_published_with_every_file_flushed_before_the_rename(tmp_path, order):
    beside = tmp_path / ".x.partial1"
    (beside / "inner").mkdir(parents=True)
    (beside / "inner" / "deep").write_text("1")
    (beside / "file").write_text("2")
    atomic.publish_folder(beside, tmp_path / "x")
    at = order.index(("rename", "x"))
    assert {name for _, name in order[:at]} == {"deep", "file", "inner", ".x.partial1"}
    assert order[at + 1 :] == [("fsync", tmp_path.name)]
    assert (tmp_path / "x" / "inner" / "deep").read_text() == "1"


def test_a_failed_write_leaves_the_old_file_and_nothing_beside(tmp_path):
    atomic.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(OSError, match="No space"):
        with atomic.replacing(tmp_path / "a.txt") as beside:
            beside.write_text("ne")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with atomic.replacing(tmp_path / "picture.png") as beside:
        assert beside.suffix == ".png" and beside.parent == tmp_path
        beside.write_bytes(b"1")


def test_a_number_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert os.listdir(tmp_path) == []
    atomic.write_json(tmp_path / "a.json", {"x": 0.1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 0.1}


def test_a_folder_that_is_removed_is_never_seen_half_empty(tmp_path, monkeypatch):
    folder = tmp_path / "step"
    folder.mkdir()
    (folder / "started.json").write_text("{}")
    (folder / "weights").write_text("w")
    monkeypatch.setattr("shutil.rmtree", lambda path, **_: None)  # the kill comes before anything is deleted
    atomic.remove_folder(folder)
    assert not folder.exists()
    monkeypatch.undo()
    assert len(atomic.sweep(tmp_path)) == 1 and os.listdir(tmp_path) == []
    atomic.remove_folder(folder)  # which is not there


def test_leftovers_of_killed_processes_are_swept_and_nothing_else(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.json", ".a.partial12.json", "in/.b.partial9.npy", "in/.tmpa1B2c3", ".tmpl"):
        (tmp_path / name).write_text("1")
    (tmp_path / ".c.partial5").mkdir()
    (tmp_path / ".c.partial5" / "file").write_text("1")
    removed = atomic.sweep(tmp_path)
    assert sorted(p.name for p in removed) == [".a.partial12.json", ".b.partial9.npy", ".c.partial5", ".tmpa1B2c3"]
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [".tmpl", "a.json", "in"]


NO_OBJECT = ("", "[]", "3", "{", "[" * 99_999, '{"a":' * 99_999, "\x00")


@pytest.mark.parametrize("text", NO_OBJECT, ids=range(len(NO_OBJECT)))
def test_what_is_no_json_object_is_a_value_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError):
        atomic.json_object(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"a": ["ü"]}', "utf-8")
    assert atomic.json_object(tmp_path / "b.json") == {"a": ["ü"]}
    with pytest.raises(OSError):
        atomic.json_object(tmp_path)
