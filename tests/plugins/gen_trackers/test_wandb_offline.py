"""An offline W&B run, its records read from the file that `wandb sync` would send."""

from __future__ import annotations

import json
import socket

import pytest

from gen_core.testing import check_tracker
from gen_core.tracker import Point, Score, TrackedRun
from gen_trackers.tracker_options import WeightsAndBiases
from gen_trackers.wandb_offline import WandbOffline, records

pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings("default")  # its libraries' own


@pytest.fixture
def sitting(tmp_path):
    """sitting(recipe): a tracker at the start of a sitting."""

    def begin(settings=None, **options):
        tracker = WandbOffline(WeightsAndBiases(**options), None)
        tracker.start(TrackedRun("small", "0123456789abcdef", tmp_path, settings or {}))
        return tracker

    return begin


def file_of(folder):
    """The one .wandb file there is."""
    (path,) = (p for p in folder.rglob("*.wandb") if not any(up.is_symlink() for up in p.parents))
    assert path.name == "run-0123456789abcdef.wandb"
    return path


def rows(path):
    """What each `log` told, by name."""
    found = [r.history for r in records(path) if r.WhichOneof("record_type") == "history"]
    told = [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row.item} for row in found]
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in told]


def points(*found):
    return [Point("train", step, {"loss": step / 8}, time=1.7e9 + step) for step in found]


def test_it_keeps_the_contract(tmp_path):
    check_tracker(lambda: WandbOffline(WeightsAndBiases(), None), tmp_path)


def test_each_sitting_holds_the_whole_run_without_doubles_or_gaps(sitting, tmp_path):
    first = sitting()
    first.points("fit.codec", points(2, 4, 6), True)
    first.end("failed", None)
    second = sitting()
    second.points("fit.codec", points(2, 4, 6), True)
    second.points("fit.codec", points(2), True)
    second.points("fit.codec", points(4, 6, 8), False)
    second.end("done", None)
    wanted = [{"fit-codec/train/loss": step / 8, "fit-codec/step": step} for step in (2, 4, 6, 8)]
    assert rows(file_of(tmp_path)) == wanted


def test_settings_scores_and_the_end_are_told(sitting, tmp_path):
    tracker = sitting({"codec": {"use": "vqgan", "fit": {"lr": 0.5}}}, project="retina", group="sweep")
    tracker.scores([Score("fid", "fid", 12.5, "synthetic", "train", low=11.0, high=14.0)])
    tracker.end("stopped", None)
    found = list(records(file_of(tmp_path)))
    run = next(r.run for r in found if r.WhichOneof("record_type") == "run")
    assert (run.run_id, run.project, run.run_group, run.display_name) == (
        "0123456789abcdef",
        "retina",
        "sweep",
        "small",
    )
    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert config["codec"] == {"use": "vqgan", "fit": {"lr": 0.5}}
    summary = {
        "/".join(u.nested_key) or u.key: json.loads(u.value_json)
        for r in found
        if r.WhichOneof("record_type") == "summary"
        for u in r.summary.update
    }
    at = "scores/fid/fid/synthetic/train"
    assert (summary[at], summary[f"{at}/low"], summary[f"{at}/high"]) == (12.5, 11.0, 14.0)
    assert [r.exit.exit_code for r in found if r.WhichOneof("record_type") == "exit"] == [75]


def test_nothing_names_this_machine_or_its_folders(sitting, tmp_path):
    tracker = sitting({"seed": 3})
    tracker.points("fit.codec", points(2), True)
    tracker.end("done", None)
    data = file_of(tmp_path).read_bytes()
    run = next(r.run for r in records(file_of(tmp_path)) if r.WhichOneof("record_type") == "run")
    assert run.host == "" and not run.HasField("git")
    assert str(tmp_path).encode() not in data and b"pytest" not in data
    if len(socket.gethostname()) > 3:
        assert socket.gethostname().encode() not in data


def test_a_file_that_could_not_be_written_whole_is_an_error(sitting, tmp_path, monkeypatch):
    tracker = sitting()
    tracker.points("fit.codec", points(*range(0, 400, 2)), True)
    true = tracker._wandb.teardown

    def full():
        true()
        path = file_of(tmp_path)
        assert path.stat().st_size > 40000  # more than a block
        path.write_bytes(path.read_bytes()[:40000])

    monkeypatch.setattr(tracker._wandb, "teardown", full)
    with pytest.raises(OSError, match="not whole; is the disk full"):
        tracker.end("done", None)
    assert 0 < len(rows(file_of(tmp_path))) < 200
