"""The page as a whole: self-contained, complete, tolerant of what is missing, within its size."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from gen_core.registry import Registry
from gen_report.html import build
from gen_report.report_options import Html

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Outline(HTMLParser):
    """Collects ids, images and addresses, and checks that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.ids, self.images, self.addresses, self.tags, self.text = [], [], [], [], set(), []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.images += [attrs] if tag == "img" else []
        self.addresses += [attrs[k] for k in ("src", "href") if k in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def written(run, tmp_path, **options) -> tuple[str, Outline]:
    options.setdefault("dpi", 45)
    files = build(Html(**options), None).write(run, tmp_path / "report.html")
    assert files == [tmp_path / "report.html"]
    text = files[0].read_text()
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    return text, outline


def test_the_registry_builds_the_page_writer():
    component = Registry.load().get("report", "html")
    assert type(component.build(component.options_class()(), None)).__name__ == "HtmlReport"


def test_a_finished_run_gets_every_section(make_run, tmp_path):
    text, page = written(make_run(), tmp_path)
    sections = [
        "samples",
        "scores",
        "fidelity",
        "copies",
        "training",
        "cost",
        "data",
        "settings",
        "reproduce",
    ]
    assert page.ids == sections
    said = " ".join(page.text)
    assert "A demonstration, not a result:" in said and "forty drawn eyes" in said
    assert "one subject: regions of it" in said
    assert "6.086" in said and "5.5 … 6.6" in said and "N = 40 is small" in said
    assert "0123abcd" in said, "the protocol names the extractor's hash"
    assert "4 min 38 s" in said and "0.5 s with decoding" in said
    assert len(list(tmp_path.iterdir())) == 1, "no temporary file stays"


def test_the_page_fetches_nothing_and_runs_nothing(make_run, tmp_path):
    run = make_run(size=(5, 20, 24))
    run.volumes = 3
    text, page = written(run, tmp_path)
    assert "script" not in page.tags and "iframe" not in page.tags
    for address in page.addresses:
        assert address.startswith(("data:", "#")), address
    assert not re.search(r"url\(|@import", text[: text.index("</style>")])


def test_every_picture_says_what_it_shows(make_run, tmp_path):
    run = make_run(size=(5, 20, 24))
    run.volumes = 12
    _, page = written(run, tmp_path)
    assert len(page.images) == 10
    for image in page.images:
        assert len(image["alt"]) > 20


def test_an_empty_run_still_gets_a_page(make_run, tmp_path):
    run = make_run(size=(3, 20, 24), filled=False)
    run.volumes = 0
    _, page = written(run, tmp_path)
    assert page.ids == ["data", "reproduce"] and page.images == []


@pytest.mark.parametrize("missing", ["events", "metrics", "cost", "prepared", "recipe"])
def test_each_part_may_be_missing(make_run, tmp_path, missing):
    run = make_run(size=(5, 20, 24))
    run.volumes = 3
    setattr(run, missing, type(getattr(run, missing))())
    _, page = written(run, tmp_path)
    gone = {"events": "training", "cost": "cost", "recipe": "settings", "metrics": "scores"}.get(missing)
    assert "samples" in page.ids and gone not in page.ids


@pytest.mark.parametrize(
    ("size", "channels", "depth"),
    [
        ((1, 20, 24), ("grey",), "none"),
        ((1, 24, 20), ("r", "g", "b"), "none"),
        ((7, 20, 24), ("hu",), "slices"),
        ((2, 20, 24), ("t1", "t2"), "slices"),
    ],
)
def test_images_and_slices_work_as_bands_do(make_run, tmp_path, size, channels, depth):
    run = make_run(size=size, channels=channels, depth=depth)
    run.volumes = 4
    text, page = written(run, tmp_path)
    assert {"samples", "fidelity"} <= set(page.ids)
    assert "nm as red" not in text


def test_real_volumes_are_not_pictured_when_they_must_not_be(make_run, tmp_path):
    run = make_run(size=(5, 20, 24))
    run.volumes = 3
    looked = []
    run.real = lambda split, n: looked.append(split) or []
    run.reconstructions = lambda n: looked.append("reconstructions") or []
    text, page = written(run, tmp_path, show_real=False)
    assert looked == []
    assert "Real volumes are not shown" in text and "samples" in page.ids


def test_a_page_over_its_limit_is_drawn_smaller(make_run, tmp_path):
    run = make_run(size=(5, 48, 48))
    run.volumes = 9
    run.events = []
    large, _ = written(run, tmp_path, dpi=80)
    limit = len(large.encode()) / 1e6 * 0.85
    small, _ = written(run, tmp_path, dpi=80, max_megabytes=limit)
    assert len(small.encode()) <= limit * 1e6 < len(large.encode())


def test_the_same_run_gives_the_same_page(make_run, tmp_path):
    run = make_run(size=(5, 20, 24))
    run.volumes, run.events = 3, []
    first, _ = written(run, tmp_path)
    assert written(run, tmp_path)[0] == first


def test_names_are_escaped(make_run, tmp_path):
    run = make_run(size=(5, 20, 24))
    run.volumes = 0
    run.name = run.recipe["name"] = "<b>eye & co</b>"
    text, page = written(run, tmp_path)
    assert "<b>" not in text and "<b>eye & co</b>" in " ".join(page.text)


def test_wrong_values_in_a_score_do_not_end_the_report(make_run, tmp_path):
    run = make_run(size=(5, 20, 24))
    run.volumes = 2
    run.metrics["results"]["theirs"] = {
        "values": [{"name": "odd", "value": None}],
        "extra": {"signatures": {}},
    }
    run.metrics["results"]["none"] = {"values": []}
    run.events.append({"kind": "train", "stage": "fit.codec", "step": 3, "values": {"loss": None, "name": "x"}})
    text, _ = written(run, tmp_path)
    assert "odd" in text and "no score: see its protocol" in text


def test_neighbours_beyond_the_read_limit_are_named_not_shown(make_run, tmp_path):
    run = make_run(size=(5, 20, 24))
    run.volumes = 12
    asked = []
    real = run.real
    run.real = lambda split, n: asked.append((split, n)) or real(split, n)
    written(run, tmp_path, read_megabytes=4 * np.prod((5, 20, 24)) * 3 / 1e6)
    assert ("train", 3) in asked
