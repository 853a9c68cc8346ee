"""What is new in events.jsonl while a run writes it."""

from __future__ import annotations

from contextlib import closing

import pytest

from gen_core.engine.events import EventLog
from gen_core.run.tracking.following import Following, point_of


@pytest.fixture
def log(tmp_path):
    return EventLog(tmp_path / "events.jsonl")


@pytest.fixture
def events(log):
    with closing(Following(log.path)) as following:
        yield following


def write(log, stage, *steps, kind="train", loss=1.0):
    for step in steps:
        log.write(kind, stage, step, {"loss": loss / step})


def shown(news):
    return [(stage, [p.step for p in points], anew) for stage, points, anew in news]


def test_each_point_comes_once_and_the_first_of_a_fit_anew(log, events):
    assert events.news() == []
    write(log, "fit.codec", 1, 2)
    assert shown(events.news()) == [("fit.codec", [1, 2], True)]
    write(log, "fit.codec", 3)
    write(log, "fit.prior", 1)
    assert shown(events.news()) == [("fit.codec", [3], False), ("fit.prior", [1], True)]
    assert events.news() == []


def test_a_fit_that_goes_back_comes_anew_and_the_others_do_not(log, events):
    write(log, "fit.codec", 2, 4, 6)
    write(log, "fit.prior", 2)
    events.news()
    log.drop_after("fit.codec", 4)
    assert shown(events.news()) == [("fit.codec", [2, 4], True)]
    write(log, "fit.codec", 6, 8)
    assert shown(events.news()) == [("fit.codec", [6, 8], False)]


def test_a_fit_that_went_back_and_wrote_the_same_again_between_two_looks_just_follows(log, events):
    write(log, "fit.codec", 2, 4, 6)
    events.news()
    log.drop_after("fit.codec", 2)
    write(log, "fit.codec", 4, 6, 8)
    assert shown(events.news()) == [("fit.codec", [8], False)]


def test_other_values_behind_the_checkpoint_make_the_fit_come_anew(log, events):
    write(log, "fit.codec", 2, 4, 6)
    events.news()
    log.drop_after("fit.codec", 2)
    write(log, "fit.codec", 4, 6, loss=3.0)
    assert shown(events.news()) == [("fit.codec", [2, 4, 6], True)]


def test_a_fit_without_any_line_left_is_empty(log, events):
    write(log, "fit.codec", 2)
    events.news()
    log.drop_after("fit.codec", 0)
    assert shown(events.news()) == [("fit.codec", [], True)]


def test_a_replaced_file_is_seen_even_when_it_grew_and_was_replaced_twice(log, events):
    write(log, "fit.codec", *range(1, 9))
    events.news()
    for _ in range(2):  # the second may bear the first one's inode
        log.drop_after("fit.codec", 1)
        write(log, "fit.codec", *range(2, 12), loss=5.0)
    assert shown(events.news()) == [("fit.codec", list(range(1, 12)), True)]


def test_a_half_written_line_waits(log, events):
    write(log, "fit.codec", 1)
    with log.path.open("a") as file:
        file.write('{"kind": "train", "stage": "fit.co')
    assert shown(events.news()) == [("fit.codec", [1], True)]
    assert events.news() == []


def test_only_finite_numbers_of_three_kinds_are_points():
    event = {"kind": "train", "stage": "fit.codec", "step": 7, "time": 12.5}
    point = point_of({**event, "values": {"loss": 0.5, "codes": 3, "bad": None, "note": "Doe", "path": ["a"]}})
    assert point.values == {"loss": 0.5, "codes": 3.0} and (point.step, point.time) == (7, 12.5)
    assert point_of({**event, "values": {"loss": None}}) is None
    assert point_of({**event, "kind": "failed", "message": "batch Doe", "values": {}}) is None
    assert point_of({**event, "kind": "fitted", "values": {"loss": 1.0}}) is None
