"""The prior without weights: its contract, truncation against scipy, a run from end to end."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from gen_codecs.standard_normal import build, truncated
from gen_codecs.standard_normal_options import StandardNormal
from gen_core.condition import ConditionSpec
from gen_core.errors import RecipeError
from gen_core.prior import PriorContext
from gen_core.run.api import RunRequest, plan, run
from gen_core.run.samples.more import sample_more
from gen_core.testing.trainables import check_prior

SHAPE = (5, 2, 3, 4)


def make(conditions=None, **options):
    return build(StandardNormal(**options), PriorContext(SHAPE, conditions=conditions or {}))


def test_the_contract_holds():
    check_prior(make())
    check_prior(make(truncate=1.5))


def test_latents_are_the_noise():
    noise = torch.randn(7, *SHAPE)
    assert torch.equal(make().draw(noise), noise)
    assert make().noise_shape(7) == (7, *SHAPE)


def test_truncation_is_the_truncated_normal_quantile_by_quantile():
    x = np.concatenate([np.linspace(-8, 8, 401), [-30.0, 0.0, 30.0]])
    for bound in (0.3, 1.0, 2.5):
        want = stats.truncnorm(-bound, bound).ppf(stats.norm.cdf(-np.abs(x))) * -np.sign(x)
        got = truncated(torch.from_numpy(x), bound).numpy()
        assert np.allclose(got, want, atol=1e-9) and np.abs(got).max() <= bound
        assert (np.diff(got[:401]) >= 0).all()


def test_a_wide_bound_changes_nothing_and_float32_stays_inside():
    noise = torch.randn(10_000)
    assert torch.allclose(truncated(noise, 9.0), noise, atol=1e-5)
    assert truncated(torch.tensor([-12.0, 12.0]), 2.0).abs().max() <= 2.0


def test_conditions_are_refused():
    with pytest.raises(RecipeError, match="takes no conditions; .* declares kind"):
        make({"kind": ConditionSpec("class", ("a", "b"))})


RECIPE = """
# A run of seconds.  gen run vae.toml
gen = 1
name = "vae"
[volume]
size = [3, 12, 10]
[dataset]
use = "retina-phantom"
subjects = 12
workers = 1
[codec]
use = "vae"
stride = [1, 4, 4]
width = 4
multipliers = [1, 1]
latent_channels = 6
[codec.fit]
steps = 3
batch = 4
[prior]
use = "standard-normal"
[sampler]
use = "direct"
truncation = 0.7
[sample]
n = 5
batch = 2
[features.codec]
use = "codec"
[metrics.psnr]
[metrics.codec-terms]
[metrics.memorization]
features = "features.codec"
[metrics.throughput]
[report]
"""


def test_a_run_needs_no_fit_of_the_prior(tmp_path):
    recipe, folder = tmp_path / "vae.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    planned = plan(RunRequest(recipe))
    assert planned["parameters"]["prior"] == 0 and planned["shapes"][-1] == "latent (6, 1, 1, 1)"
    outcome = run(RunRequest(recipe, out=folder))
    done = [row["step"] for row in outcome.steps if row["state"] == "done"]
    assert done == ["prepare", "fit.codec", "encode", "sample", "evaluate", "report"]
    scores = json.loads((folder / "metrics.json").read_text())["results"]
    assert any(v["name"].startswith("kl") for v in scores["codec-terms"]["values"])
    manifest = json.loads((folder / "samples" / "manifest.json").read_text())
    assert len(manifest["samples"]) == 5 and manifest["prior"] == ""
    assert (folder / "report.html").stat().st_size > 10_000
    again = {row["state"] for row in run(RunRequest(recipe, out=folder)).steps}
    assert again == {"skipped"}
    sample_more(folder, 3, out=tmp_path / "more")
    first = next(iter(manifest["samples"][0]["files"]))
    assert (tmp_path / "more" / first).read_bytes() == (folder / "samples" / first).read_bytes()
