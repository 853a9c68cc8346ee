"""Sample files and their manifest where a sample is a folder of slices with masks beside it."""

import json

import numpy as np
import pytest
import torch

from gen_core import atomic
from gen_core.run.samples.drawn import Under
from gen_core.run.samples.outputs import sample_stem, set_aside, verify_manifest, write_manifest, write_samples
from gen_core.volume import VolumeSpec
from gen_core.writer import Writer

SPEC = VolumeSpec(size=(2, 3, 4), depth="slices")


class Slices(Writer):
    """A folder with a file a slice, and one file a mask beside it; remembers the masks it was given."""

    def __init__(self):
        self.masks = []

    def write(self, stem, volume, spec, info, masks=None):
        self.masks.append(masks)
        files = [stem / f"{k}.raw" for k in range(len(volume[0]))]
        for k, file in enumerate(files):
            atomic.write_bytes(file, volume[0, k].tobytes())
        for name, mask in (masks or {}).items():
            files.append(stem.with_name(f"{stem.name}-{name}.raw"))
            atomic.write_bytes(files[-1], np.asarray(mask).tobytes())
        return files


def written(folder, under=()):
    writer = Slices()
    volumes = torch.rand((2, *SPEC.shape), generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows = write_samples(folder, writer, 5, volumes, SPEC, {}, under)
    for row in rows:
        row["id"] = f"sample-{row['index']:06d}"
    write_manifest(folder, rows, {}, "card")
    return writer, rows


def test_files_in_folders_are_listed_by_their_path_and_verified(tmp_path):
    writer, rows = written(tmp_path)
    assert writer.masks == [None, None]  # a writer that knows no masks is not handed any
    assert list(rows[1]["files"]) == ["sample-000006/0.raw", "sample-000006/1.raw"]
    assert verify_manifest(tmp_path) == []
    (tmp_path / "sample-000006/1.raw").write_bytes(b"x")
    assert len(verify_manifest(tmp_path)) == 1


BAD = ("", "[]", "{}", '{"samples": 3}', '{"samples": [{"files": {"a": 1}}]}', "[" * 99_999)


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_manifest_that_lists_nothing_is_damaged(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    assert verify_manifest(tmp_path) == [f"{tmp_path / 'manifest.json'}: damaged"]


def test_masks_go_to_the_writer_with_their_volume(tmp_path):
    under = [Under(masks={"a": np.full((2, 3, 4), on)}, told={"size": 3.5 + on}) for on in (False, True)]
    writer, rows = written(tmp_path, under)
    assert [m["a"].all() for m in writer.masks] == [False, True]
    assert "sample-000005-a.raw" in rows[0]["files"]
    assert [row["condition"] for row in rows] == [{"size": 3.5}, {"size": 4.5}]


def test_rejected_folders_move_aside_and_come_back(tmp_path):
    written(tmp_path)
    set_aside(tmp_path, {"sample-000005": ["poor"]})
    assert sorted(p.name for p in (tmp_path / "rejected/sample-000005").iterdir()) == ["0.raw", "1.raw"]
    assert not (tmp_path / "sample-000005").exists() and verify_manifest(tmp_path) == []
    set_aside(tmp_path, {})
    assert len(json.loads((tmp_path / "manifest.json").read_text())["samples"]) == 2
    assert verify_manifest(tmp_path) == [] and not (tmp_path / "rejected/sample-000005").exists()


def test_no_folder_holds_more_than_ten_thousand_samples_and_the_place_follows_from_the_index(tmp_path):
    assert sample_stem(tmp_path, 0) == tmp_path / "sample-000000"
    assert sample_stem(tmp_path, 9_999).parent == tmp_path
    assert sample_stem(tmp_path, 10_000) == tmp_path / "from-010000" / "sample-010000"
    assert sample_stem(tmp_path, 99_999) == tmp_path / "from-090000" / "sample-099999"
    rows = write_samples(tmp_path, Slices(), 9_999, torch.zeros(2, 1, 2, 3, 4), SPEC, {"seed": 0})
    for row in rows:
        row["id"] = f"sample-{row['index']:06d}"
    write_manifest(tmp_path, rows, {}, "card")
    assert list(rows[1]["files"])[0] == "from-010000/sample-010000/0.raw" and verify_manifest(tmp_path) == []
    set_aside(tmp_path, {"sample-010000": ["poor"]})
    assert (tmp_path / "rejected/from-010000/sample-010000/0.raw").exists() and verify_manifest(tmp_path) == []
    set_aside(tmp_path, {})
    assert verify_manifest(tmp_path) == [] and (tmp_path / "from-010000/sample-010000/0.raw").exists()
