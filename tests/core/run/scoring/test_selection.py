"""Weights chosen by a metric of samples: the score of every validation, the best kept, who is fitted before whom."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from attrs import evolve

from gen_core.engine.stop import StopFlag
from gen_core.errors import RecipeError, Stopped
from gen_core.prior import DirectPrior
from gen_core.recipe import load_recipe
from gen_core.registry import Registry
from gen_core.run.api import RunRequest, run
from gen_core.run.context import RunContext
from gen_core.run.fingerprint import depends
from gen_core.run.graph import build_graph
from gen_core.run.opening import open_run
from gen_core.run.progress import Silent
from gen_core.run.scoring.selection import SampleScores
from gen_core.run.smoke import smoke_recipe

SELECT = """steps = 4
validate_every = 2
select = "metrics.fid"
select_samples = 9
select_steps = 2
validate_volumes = 9
ema = 0.5
"""
FID = """
[features.random]
use = "random-conv64"
[metrics.fid]
features = "features.random"
extrapolate = false
"""


@pytest.fixture(scope="module")
def text(small_recipe):
    """The small recipe, its prior chosen by the Frechet distance of nine samples to nine volumes."""
    return small_recipe.replace("subjects = 12", "subjects = 40").replace("steps = 3\n", SELECT) + FID


@pytest.fixture(scope="module")
def chosen(tmp_path_factory, text):
    """A finished run of it."""
    folder = tmp_path_factory.mktemp("chosen")
    return run(RunRequest(written(folder, text), out=folder / "runs" / "chosen")).folder


def written(tmp_path, text):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    return path


def validations(folder):
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    mine = [e for e in events if e["kind"] == "validation" and e["stage"] == "fit.prior"]
    return {e["step"]: e["values"] for e in mine}


def working(folder):
    recipe, registry, run_folder = open_run(folder)
    return RunContext(recipe, registry, run_folder, torch.device("cpu"), Silent(), StopFlag())


def test_every_validation_scores_samples_and_the_best_weights_are_kept(chosen):
    values = {step: v["metrics.fid"] for step, v in validations(chosen).items()}
    assert list(values) == [0, 2, 4] and len(set(values.values())) == 3  # before the first step too
    assert all("loss" in v for v in validations(chosen).values())
    best = min(values, key=values.get)
    kept = json.loads((chosen / "steps" / "fit.prior" / "weights.json").read_text())
    assert kept["step"] == best and kept["selected"] == {"metrics.fid": values[best]}
    done = json.loads((chosen / "steps" / "fit.prior" / "done.json").read_text())
    assert done["selected"] == {"by": "metrics.fid", "value": values[best], "step": best}


def test_the_kept_weights_have_the_score_that_they_were_kept_for(chosen):
    values = {step: v["metrics.fid"] for step, v in validations(chosen).items()}
    ctx = working(chosen)
    scores = SampleScores(ctx, ctx.prior(), ctx.options_of("prior"))
    assert scores()["metrics.fid"] == pytest.approx(min(values.values()), rel=1e-9)


def test_samples_are_the_same_at_every_call_and_in_any_chunks(chosen):
    ctx = working(chosen)
    fit = ctx.options_of("prior")
    one = SampleScores(ctx, ctx.prior(), fit)
    x = torch.cat([b.x for b in one.samples()])
    again = [b for b in one.samples()]
    assert torch.equal(torch.cat([b.x for b in again]), x) and len(x) == 9
    assert [name for b in again for name in b.ids] == [f"sample-{i:06d}" for i in range(9)]
    other = SampleScores(ctx, ctx.prior(), fit)
    other.options = evolve(other.options, batch=4)
    torch.testing.assert_close(torch.cat([b.x for b in other.samples()]), x, rtol=0, atol=2e-3)
    assert (x[0] - x[1]).abs().max() > 0.1


class Generator(DirectPrior):
    """Each latent a number everywhere, the first of its noise."""

    shape = (1, 3, 12, 10)

    def noise_shape(self, n):
        return (n, 5)

    def draw(self, noise, cond=None, **options):
        return noise[:, :1, None, None, None].expand(-1, *self.shape)


def test_a_one_shot_prior_is_scored_too(chosen):
    ctx = working(chosen)
    scores = SampleScores(ctx, Generator(), ctx.options_of("prior"))
    x = torch.cat([b.x for b in scores.samples()])
    assert x.shape == (9, 1, 3, 12, 10) and (x == x[:, :, :1, :1, :1]).all() and len(x.unique()) > 2
    assert scores()["metrics.fid"] > 0


def digest(folder):
    files = sorted((folder / "steps" / "fit.prior").glob("*.safetensors")) + [folder / "metrics.json"]
    return [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]


def test_a_run_stopped_while_it_scores_goes_on_to_the_same_bits(tmp_path, chosen, text, monkeypatch):
    path, out, calls = written(tmp_path, text), tmp_path / "runs" / "chosen", []
    samples = SampleScores.samples

    def stopping(self):
        calls.append(1)
        for k, batch in enumerate(samples(self)):
            if len(calls) == 2 and k == 1:  # in the middle of the second validation
                self.ctx.stop.request("SIGTERM")
            self.ctx.check_stop()
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(SampleScores, "samples", stopping)
        with pytest.raises(Stopped):
            run(RunRequest(path, out=out))
    assert 2 not in validations(out) and len(calls) == 2
    run(RunRequest(path, out=out))
    assert validations(out) == validations(chosen)
    assert digest(out) == digest(chosen)


def test_samples_that_are_not_finite_are_never_the_best(chosen):
    ctx = working(chosen)
    prior = ctx.prior()
    with torch.no_grad():
        next(prior.parameters()).fill_(float("nan"))
    value = SampleScores(ctx, prior, ctx.options_of("prior"))()["metrics.fid"]
    assert value != value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"metrics.fid"', '"metrics.fit"'), "no such metric table; the recipe has metrics.ms-ssim, metrics.fid"),
        (("validate_every = 2", "validate_every = 0"), "needs validations during the fit"),
        (('[sampler]\nuse = "ddim"\n', ""), "the recipe needs a [sampler]"),
    ],
)
def test_what_cannot_be_chosen_by_is_told_with_the_recipe(tmp_path, text, change, message):
    assert change[0] in text
    with pytest.raises(RecipeError) as error:
        load_recipe(written(tmp_path, text.replace(*change)))
    assert message in str(error.value)


def test_only_a_prior_is_chosen_by_samples(tmp_path, text):
    codec = '[codec]\nuse = "vqgan"\n[codec.fit]\nselect = "metrics.fid"\nvalidate_every = 2\n'
    with pytest.raises(RecipeError, match="only a prior draws samples"):
        load_recipe(written(tmp_path, text.replace('[codec]\nuse = "identity"\n', codec)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("select_samples = 9", "select_samples = 3")], "no value of 3 samples and 9 validation volumes"),
        ([("validate_volumes = 9", 'validate_volumes = 9\nselect_mode = "max"')], "lower is better, but select_mode"),
        ([('"metrics.fid"', '"metrics.psnr"'), ("[metrics.fid]", "[metrics.psnr]\n[metrics.fid]")], "does not score"),
    ],
)  # fmt: skip
def test_a_metric_that_says_nothing_of_so_few_samples_stops_before_the_first_step(tmp_path, text, changes, message):
    for change in changes:
        assert change[0] in text
        text = text.replace(*change, 1)
    out = tmp_path / "runs" / "wrong"
    with pytest.raises(RecipeError) as error:
        run(RunRequest(written(tmp_path, text), out=out))
    assert message in str(error.value) and "[prior.fit] select" in str(error.value)
    assert not list((out / "steps" / "fit.prior").glob("checkpoints/step-*"))


def graph(tmp_path, text, *overrides):
    return {s.name: s for s in build_graph(load_recipe(written(tmp_path, text), overrides), {})}


def test_a_network_that_scores_is_fitted_before_the_prior(tmp_path, text):
    fitted = text.replace('use = "random-conv64"', 'use = "moco-resnet18"')
    assert "fit.features.random" in graph(tmp_path, fitted)["fit.prior"].upstream
    order = list(graph(tmp_path, fitted))
    assert order.index("fit.features.random") < order.index("fit.prior")
    plain = graph(tmp_path, fitted.replace('select = "metrics.fid"', ""))
    assert plain["fit.prior"].upstream == ("encode",)
    assert list(plain).index("fit.prior") < list(plain).index("fit.features.random")
    with pytest.raises(RecipeError, match="is fitted on samples; the prior is fitted before that"):
        graph(tmp_path, fitted.replace('use = "moco-resnet18"', 'use = "moco-resnet18"\ntrain_on = "both"'))


def test_the_metric_and_the_sampler_count_for_the_prior_only_where_they_choose(tmp_path, text):
    print_of = lambda text, *overrides: graph(tmp_path, text, *overrides)["fit.prior"].settings
    plain = text.replace('select = "metrics.fid"', "")
    for override in ('metrics.fid.standardize="none"', "sampler.eta=0.5", "sample.clamp=1.0"):
        assert print_of(text, override) != print_of(text), override
        assert print_of(plain, override) == print_of(plain), override
    for override in ("sample.n=7", "metrics.ms-ssim.pairs=5"):
        assert print_of(text, override) == print_of(text), override
    fit = {"steps": 5, "select": "", "select_samples": 64, "select_steps": 20}
    assert depends({"fit": fit}) == depends({"fit": {"steps": 5, "select": ""}})  # runs from before there was a choice
    fit["select"] = "metrics.fid"
    assert depends({"fit": fit}) != depends({"fit": {**fit, "select_samples": 32}})


def test_a_smoke_run_chooses_nothing(tmp_path, text):
    small = smoke_recipe(load_recipe(written(tmp_path, text)))
    assert small.table("prior").options.fit.select == ""


def test_the_registry_names_the_options():
    fit = Registry.load().get("prior", "ddpm3d").options_class()().fit
    assert (fit.select, fit.select_samples, fit.select_steps) == ("", 64, 20)
