"""Event files, read back with tensorboard's own reader."""

from __future__ import annotations

import json
import logging
import resource
import signal
import subprocess
import sys

import pytest

from gen_core.testing import check_tracker
from gen_core.tracker import Point, Score, TrackedRun
from gen_trackers.tensorboard_events import TensorBoardEvents
from gen_trackers.tracker_options import TensorBoard

pytest.importorskip("tensorboard")


@pytest.fixture(autouse=True)
def quiet():
    """Its reader says that it purges what the writer tells it to."""
    logger = logging.getLogger("tensorboard")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


@pytest.fixture
def sitting(tmp_path):
    """sitting(recipe): a tracker at the start of a sitting."""

    def begin(settings=None, **options):
        tracker = TensorBoardEvents(TensorBoard(**options), None)
        tracker.start(TrackedRun("small", "id", tmp_path, settings or {}))
        return tracker

    return begin


def reader(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder))


def steps(board, tag="train/loss"):
    board.Reload()
    return [(event.step, round(event.value, 4)) for event in board.Scalars(tag)]


def points(*found, kind="train"):
    return [Point(kind, step, {"loss": step / 8}, time=1.7e9 + step) for step in found]


def test_it_keeps_the_contract(tmp_path):
    check_tracker(lambda: TensorBoardEvents(TensorBoard(), None), tmp_path)


def test_curves_have_their_steps_values_and_times(sitting, tmp_path):
    tracker = sitting()
    tracker.points("fit.codec", points(2, 4), True)
    tracker.points("fit.codec", points(4, kind="validation"), False)
    tracker.flush()  # visible before the end
    board = reader(tmp_path / "fit.codec")
    assert steps(board) == [(2, 0.25), (4, 0.5)] and steps(board, "validation/loss") == [(4, 0.5)]
    assert [event.wall_time for event in board.Scalars("train/loss")] == [1.7e9 + 2, 1.7e9 + 4]
    tracker.end("done", None)


def test_a_fit_that_goes_back_is_seen_without_doubles_or_gaps_by_who_looks_on(sitting, tmp_path):
    tracker = sitting()
    tracker.points("fit.codec", points(2, 4, 6, 8), True)
    tracker.points("fit.prior", points(2), True)
    tracker.flush()
    codec, prior = reader(tmp_path / "fit.codec"), reader(tmp_path / "fit.prior")
    assert [step for step, _ in steps(codec)] == [2, 4, 6, 8]
    tracker.points("fit.codec", points(2, 4), True)
    tracker.points("fit.codec", points(6, 8, 10), False)
    tracker.end("done", None)
    assert [step for step, _ in steps(codec)] == [2, 4, 6, 8, 10] == [s for s, _ in steps(reader(codec.path))]
    assert steps(prior) == [(2, 0.25)]


def test_a_later_sitting_takes_the_place_of_an_earlier_one(sitting, tmp_path):
    first = sitting()
    first.points("fit.codec", points(2, 4, 6), True)
    first.flush()  # and killed: never closed
    second = sitting()
    second.points("fit.codec", points(2, 4), True)
    second.points("fit.codec", points(6, 8), False)
    second.end("done", None)
    assert [step for step, _ in steps(reader(tmp_path / "fit.codec"))] == [2, 4, 6, 8]
    assert len(list((tmp_path / "fit.codec").iterdir())) == 1
    first.end("failed", None)


def test_a_full_disk_is_an_error_when_it_is_written_to(sitting):
    tracker = sitting()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            tracker.points("fit.codec", points(*range(100)), True)
            tracker.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    tracker.end("failed", None)


def test_scores_with_their_intervals_and_the_settings_stand_beside_the_fits(sitting, tmp_path):
    recipe = {"seed": 3, "codec": {"use": "vqgan"}}
    tracker = sitting(recipe)
    tracker.scores([Score("fid", "fid", 12.5, "synthetic", "train", low=11.0, high=14.0), Score("psnr", "psnr", 30.0)])
    tracker.end("done", None)
    board = reader(tmp_path / "run")
    board.Reload()
    found = {tag: board.Scalars(tag)[0].value for tag in board.Tags()["scalars"]}
    fid = "fid/fid/synthetic/train"
    assert found == {f"{fid}/value": 12.5, f"{fid}/low": 11.0, f"{fid}/high": 14.0, "psnr/psnr/value": 30.0}
    (text,) = board.Tensors("recipe")
    assert json.loads(text.tensor_proto.string_val[0]) == recipe
    assert board.SummaryMetadata("recipe").plugin_data.plugin_name == "text"


def test_the_settings_stay_here_when_asked(sitting, tmp_path):
    sitting({"seed": 3}, recipe=False).end("done", None)
    board = reader(tmp_path / "run")
    board.Reload()
    assert board.Tags()["tensors"] == []


def test_neither_torch_nor_tensorflow_is_loaded():
    code = (
        "import sys; from gen_trackers.tensorboard_events import TensorBoardEvents as T; "
        "from gen_trackers.tracker_options import TensorBoard; T(TensorBoard(), None); "
        "print('torch' in sys.modules, 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"
