"""The page as a whole: self-contained, complete, tolerant of what is missing, within its size."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from gen_core.registry import Registry
from gen_core.testing.scores import check_report
from gen_report.gathered import gather
from gen_report.html import build
from gen_report.report_options import Html

EVERYTHING = 21  # figures of a run that has all
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


def lean(run, volumes: int = 3):
    """The run with few volumes and without the figures of lines, which take the most time to draw."""
    run.volumes, run.events = volumes, []
    for result in run.metrics["results"].values():
        result.pop("extra", None)
    run.metrics["results"].pop("utility"), run.metrics["results"].pop("recovery")
    run.features = lambda n: None
    return run


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
        "outcasts",
        "usefulness",
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
    assert "the perceptual loss is off" in said and "No sign of copied training volumes" in said
    assert "memorization: a copy of train-041; black" in said
    assert "4 min 38 s" in said and "0.5 s with decoding" in said
    assert len(list(tmp_path.iterdir())) == 1, "no temporary file stays"


def test_the_page_fetches_nothing_and_runs_nothing(make_run, tmp_path):
    run = lean(make_run(size=(5, 20, 24)))
    text, page = written(run, tmp_path)
    assert "script" not in page.tags and "iframe" not in page.tags
    for address in page.addresses:
        assert address.startswith(("data:", "#")), address
    assert not re.search(r"url\(|@import", text[: text.index("</style>")])


def test_every_picture_says_what_it_shows(make_run, tmp_path):
    run = make_run(size=(5, 20, 24))
    run.volumes = 12
    text, page = written(run, tmp_path)
    assert len(page.images) == EVERYTHING
    for image in page.images:
        assert len(image["alt"]) > 20
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.S)
    assert len(captions) == len(page.images)
    silent = [c for c in captions if not re.search(r"N = |N in |N:|first \d+|steps|\d+ points|Pixels:", c)]
    assert silent == [], "every caption says how much is behind its figure"


def test_an_empty_run_still_gets_a_page(make_run, tmp_path):
    run = make_run(size=(3, 20, 24), filled=False)
    run.volumes = 0
    _, page = written(run, tmp_path)
    assert page.ids == ["data", "reproduce"] and page.images == []


@pytest.mark.parametrize("missing", ["events", "metrics", "cost", "prepared", "recipe", "steps"])
def test_each_part_may_be_missing(make_run, tmp_path, missing):
    run = make_run(size=(5, 20, 24))
    if missing != "metrics":
        lean(run)
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
    run = lean(make_run(size=size, channels=channels, depth=depth), 4)
    text, page = written(run, tmp_path)
    assert {"samples", "fidelity"} <= set(page.ids)
    assert "nm as red" not in text


def test_real_volumes_are_not_pictured_when_they_must_not_be(make_run, tmp_path):
    run = make_run(size=(5, 20, 24))
    run.volumes, plain, asked = 3, run.find, []
    run.real = run.reconstructions = lambda *a: pytest.fail("looks at real volumes")
    run.find = lambda id, most=0: asked.append(id) or plain(id, most)
    text, page = written(run, tmp_path, show_real=False)
    assert asked and all(i.startswith("sample") for i in asked)
    assert "Real volumes are not shown" in text and "samples" in page.ids
    shown = [title for title in re.findall(r"<h3>(.*?)</h3>", text) if "real" in title.lower() or "train" in title]
    assert shown == ["Real and synthetic in feature space", "Distance to the training set"], "points, no pictures"
    for gone in ("What the codec keeps", "Nearest training volumes", "Rejected samples"):
        assert gone not in text
    assert len(page.images) == EVERYTHING - 5, "real grid, reconstructions, neighbours, rejected samples, clusters"


def test_no_pixel_of_a_hidden_real_volume_reaches_the_page(make_run, tmp_path):
    def page(shift: int, show_real: bool) -> str:
        run = make_run(size=(5, 20, 24))
        run.volumes, run.events, plain = 3, [], type(run)._volume
        run._volume = lambda seed, soft=0.0: plain(run, seed if seed >= 900 else seed + shift, soft)
        return written(run, tmp_path, show_real=show_real)[0]

    assert page(0, False) == page(7000, False), "other real volumes, same samples: the same page"


def test_a_page_over_its_limit_is_drawn_smaller(make_run, tmp_path):
    run = lean(make_run(size=(5, 48, 48)), 9)
    large, _ = written(run, tmp_path, dpi=80)
    limit = len(large.encode()) / 1e6 * 0.85
    small, _ = written(run, tmp_path, dpi=80, max_megabytes=limit)
    assert len(small.encode()) <= limit * 1e6 < len(large.encode())


def test_the_same_run_gives_the_same_page(make_run, tmp_path):
    run = lean(make_run(size=(5, 20, 24)))
    first, _ = written(run, tmp_path)
    assert written(run, tmp_path)[0] == first


def test_names_are_escaped(make_run, tmp_path):
    run = lean(make_run(size=(5, 20, 24)), 0)
    run.name = run.recipe["name"] = "<b>eye & co</b>"
    text, page = written(run, tmp_path)
    assert "<b>" not in text and "<b>eye & co</b>" in " ".join(page.text)


def test_wrong_values_in_a_score_do_not_end_the_report(make_run, tmp_path):
    run = lean(make_run(size=(5, 20, 24)), 2)
    run.metrics["results"]["theirs"] = {
        "values": [{"name": "odd", "value": None}],
        "extra": {"signatures": {}},
    }
    run.metrics["results"]["none"] = {"values": []}
    run.events.append({"kind": "train", "stage": "fit.codec", "step": 3, "values": {"loss": None, "name": "x"}})
    text, _ = written(run, tmp_path)
    assert "odd" in text and "no score: see its protocol" in text


def test_neighbours_beyond_the_read_limit_are_named_not_shown(make_run):
    run = make_run(size=(5, 20, 24))
    run.volumes = 12
    asked = []
    plain = run.find
    run.find = lambda id, most=0: asked.append(most) or plain(id, most)
    got = gather(run, Html(read_megabytes=4 * np.prod((5, 20, 24)) * 3 / 1e6))
    assert set(asked) == {3} and "train-002" in got.by_id and "train-003" not in got.by_id


def test_strips_and_scatter_plots_can_be_left_out(make_run, tmp_path):
    run = lean(make_run(size=(5, 20, 24)))
    run.interpolation = run.denoising = run.features = lambda *a: pytest.fail("computes what nobody asked for")
    text, _ = written(run, tmp_path, frames=0, scattered=0)
    assert "Between two samples" not in text and "Out of the noise" not in text


def test_the_contract_of_reports_holds(make_run, tmp_path):
    check_report(build(Html(dpi=45), None), tmp_path, lean(make_run(size=(5, 20, 24))))
