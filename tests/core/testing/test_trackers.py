"""A good tracker passes the check; each kind of bad one fails with a sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gen_core.testing import check_tracker
from gen_core.tracker import Tracker


class Good(Tracker):
    """Counts lines."""

    def start(self, run):
        self.path = run.folder / "lines.txt"

    def points(self, stage, points, anew):
        with self.path.open("w" if anew else "a") as file:
            file.writelines(f"{stage} {point.step}\n" for point in points)

    def end(self, state, report):
        return None


class Raising(Good):
    def flush(self):
        raise KeyError("board")


class Elsewhere(Good):
    def start(self, run):
        super().start(run)
        (run.folder.parent / "board.db").write_text("")


class Changing(Good):
    def points(self, stage, points, anew):
        points.clear()


class Pop(Good):
    def start(self, run):
        super().start(run)
        run.recipe.pop("gen")


def test_a_good_tracker_passes(tmp_path):
    check_tracker(Good, tmp_path)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (Raising, "Raising fails in a sitting that is the first: KeyError: 'board'"),
        (Elsewhere, "Elsewhere writes outside of its folder: board.db"),
        (Changing, "Changing changes what it is told in a sitting that is the first"),
        (Pop, "Pop changes what it is told in a sitting that is the first"),
        (lambda: Path("/"), "PosixPath is no gen_core.tracker.Tracker"),
    ],
)
def test_what_breaks_the_contract_is_said(tmp_path, bad, sentence):
    with pytest.raises(AssertionError) as caught:
        check_tracker(bad, tmp_path)
    assert str(caught.value) == sentence
