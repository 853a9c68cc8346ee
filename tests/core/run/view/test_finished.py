"""What a report may look at of a finished run: volumes by id, features, strips, records."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gen_core.engine.stop import StopFlag
from gen_core.run.api import RunRequest, run
from gen_core.run.context import RunContext
from gen_core.run.opening import open_run
from gen_core.run.progress import Silent
from gen_core.run.view.finished import FinishedRun
from gen_core.run.view.strips import slerp

MORE = """
[features.random]
use = "random-conv64"
[metrics.fid]
features = "features.random"
[evaluate.reject]
by = ["metrics.ms-ssim"]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of five samples, the second one rejected; returns its view."""
    from gen_metrics.ms_ssim import MsSsim

    from ..conftest import RECIPE

    folder = tmp_path_factory.mktemp("view")
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE + MORE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MsSsim, "judge", lambda self: {"sample-000001": "a twin"})
        run(RunRequest(recipe, out=folder / "run"))
    return view_of(folder / "run")


def view_of(folder) -> FinishedRun:
    recipe, registry, run_folder = open_run(folder)
    return FinishedRun(RunContext(recipe, registry, run_folder, torch.device("cpu"), Silent(), StopFlag()))


def drawn(view) -> dict[str, np.ndarray]:
    """Every sample as `sample` left it: drawn in other company, so equal up to rounding, which the start magnifies."""
    chunks = sorted((view.folder / "steps" / "sample" / "chunks").glob("*.safetensors"))
    x = torch.cat([load_file(c)["x"] for c in chunks]).numpy()
    return {f"sample-{i:06d}": v for i, v in enumerate(x)}


def test_a_volume_is_found_by_its_id_in_any_split_and_among_the_rejected(finished):
    for split in ("train", "val"):
        for sample in finished.real(split, 3):
            assert np.array_equal(finished.find(sample.id).x, sample.x)
    for id_, x in drawn(finished).items():
        assert np.array_equal(finished.find(id_).x, x)
    assert finished.find("nobody") is None


def test_a_search_reads_no_more_real_volumes_than_it_may_and_each_once(finished, monkeypatch):
    view, read = view_of(finished.folder), []
    last = finished.real("train", 99)[-1].id
    split = view._ctx.split("train")
    kind = type(split)
    plain = kind.__getitem__
    monkeypatch.setattr(kind, "__getitem__", lambda self, i: read.append((self.name, i)) or plain(self, i))
    assert view.find(last, most=2) is None and view.find("nobody", most=2) is None
    assert read.count(("train", 0)) == 1 and ("train", 2) not in read
    assert view.find(last).id == last


def test_what_steps_recorded_and_who_was_rejected_is_there(finished):
    assert finished.rejected() == {"sample-000001": ["ms-ssim: a twin"]}
    assert finished.steps["fit.prior"]["parameters"] > 0 and "notes" in finished.steps["fit.prior"]
    assert [i for i, _ in finished.synthetic(2)] == ["sample-000000", "sample-000002"]


def test_a_step_taken_from_another_run_shows_what_it_recorded_there(finished):
    own = finished.folder / "steps" / "fit.prior"
    other = finished.folder.parent / "other" / "steps" / "fit.prior"
    other.mkdir(parents=True, exist_ok=True)
    (other / "done.json").write_text(json.dumps({"parameters": 7, "reference": ""}))
    kept = (own / "done.json").read_text()
    try:
        (own / "done.json").write_text(json.dumps({"reference": "../../../other/steps/fit.prior"}))
        assert view_of(finished.folder).steps["fit.prior"]["parameters"] == 7
    finally:
        (own / "done.json").write_text(kept)


def test_features_are_those_of_the_network_that_the_metrics_use(finished):
    found = finished.features(2)
    assert found.name == "features.random" and found.dim == 64
    assert {s: v.shape for s, v in found.vectors.items()} == {s: (2, 64) for s in ("train", "val", "synthetic")}
    network = finished._ctx.features("features.random")
    x = torch.from_numpy(finished.real("val", 1)[0].x)  # three planes: all of them are looked at
    want = torch.stack([network.features(x[:, d].expand(1, 3, -1, -1))[0] for d in range(3)]).mean(0)
    assert found.vectors["val"][0] == pytest.approx(want.numpy(), abs=1e-5)


def test_an_interpolation_starts_and_ends_at_the_samples(finished):
    strip = finished.interpolation(frames=4, most_steps=50)
    samples = drawn(finished)
    assert [u for u, _ in strip] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert np.abs(strip[0][1] - samples["sample-000000"]).max() < 2e-3
    assert np.abs(strip[-1][1] - samples["sample-000001"]).max() < 2e-3


def test_a_denoising_strip_falls_in_time_and_ends_at_the_sample(finished):
    strip = finished.denoising(frames=3, most_steps=50)
    times = [t for t, _, _ in strip]
    assert times == sorted(times, reverse=True) and times[0] == 1 and times[-1] == 0
    for x in strip[-1][1:]:
        assert np.abs(x - drawn(finished)["sample-000000"]).max() < 2e-3
    assert np.abs(strip[0][1] - strip[-1][1]).max() > 0.1, "it starts from noise"


def test_strips_take_no_more_steps_than_they_may(finished, monkeypatch):
    asked = []
    prior = finished._ctx.prior()
    plain = type(prior).denoise
    monkeypatch.setattr(type(prior), "denoise", lambda self, *a: asked.append(1) or plain(self, *a))
    finished.interpolation(frames=2, most_steps=1)
    assert len(asked) == 1


def test_the_great_circle_keeps_the_length_of_noise_and_its_ends():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 5, 7, 11, generator=g)
    b = b / b.norm() * a.norm()
    for u in (0.2, 0.5, 0.9):
        assert slerp(a, b, u).norm() == pytest.approx(float(a.norm()), rel=1e-5)
    assert torch.allclose(slerp(a, b, 0.0), a) and torch.allclose(slerp(a, b, 1.0), b, atol=1e-6)
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert slerp(x, y, 1 / 3).tolist() == pytest.approx([3**0.5 / 2, 0.5])  # cos 30, sin 30
    assert torch.equal(slerp(x, x, 0.3), x)
