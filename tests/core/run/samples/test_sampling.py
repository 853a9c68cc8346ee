"""Chunks, shards and seeds of sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_core.condition import Conditions
from gen_core.ddpm.discrete_path import DiscretePath
from gen_core.engine import graph_capture
from gen_core.engine.seeds import sample_noise
from gen_core.errors import RunError, UsageError
from gen_core.options import SampleOptions
from gen_core.prior import DiffusionPrior
from gen_core.run.samples import sampling
from gen_core.run.samples.sampling import Recorded, chunks, draw_chunk, latents_from
from gen_diffusion.ddpm import build as ddpm
from gen_diffusion.sampler_options import Ddpm

SHAPE = (2, 1, 3, 5)


class Halves(DiffusionPrior):
    """Says that half of what it sees is data."""

    shape = SHAPE

    def __init__(self, poison: bool = False):
        super().__init__()
        self.path = DiscretePath(np.linspace(1e-3, 0.5, 20))
        self.poison = poison

    def denoise(self, z_t, t, cond=None):
        z_0 = z_t / 2 if not self.poison else z_t * float("nan")
        if cond is not None:
            told = torch.where(cond.present["age"], cond.values["age"], 0.0)
            z_0 = z_0 + told.reshape(-1, 1, 1, 1, 1)
        alpha, sigma = (f(t.double()).float().reshape(-1, 1, 1, 1, 1) for f in (self.path.alpha, self.path.sigma))
        return z_0, (z_t - alpha * z_0) / sigma


class Plain:
    def decode(self, z):
        return z


def draw(chunk, batch=3, seed=0, **kwargs):
    options = SampleOptions(n=100, batch=batch, steps=5)
    z, x, _ = draw_chunk(
        chunk,
        prior=Halves(**kwargs),
        sampler=ddpm(Ddpm(), None),
        codec=Plain(),
        options=options,
        seed=seed,
        device=torch.device("cpu"),
    )
    return x


def test_shards_part_the_chunks_and_leave_none_out():
    whole = chunks(23, 4)
    assert whole == [0, 1, 2, 3, 4, 5]
    parts = [chunks(23, 4, (i, 3)) for i in (1, 2, 3)]
    assert sorted(sum(parts, [])) == whole
    assert chunks(1, 4) == [0]


@pytest.mark.parametrize("shard", [(0, 3), (4, 3)])
def test_a_shard_outside_its_number_is_refused(shard):
    with pytest.raises(UsageError, match="must be 1..3"):
        chunks(23, 4, shard)


def test_a_chunk_is_the_same_whenever_it_is_drawn():
    assert torch.equal(draw(2), draw(2))
    assert draw(0).shape == (3, *SHAPE)


def test_every_sample_of_every_chunk_is_another():
    samples = torch.cat([draw(0), draw(1)])
    distances = torch.cdist(samples.flatten(1), samples.flatten(1)) + torch.eye(6) * 1e9
    assert distances.min() > 0.1


def test_the_seed_changes_the_samples():
    assert not torch.equal(draw(0), draw(0, seed=1))


def test_latents_that_are_not_finite_end_the_run_with_their_chunk():
    with pytest.raises(RunError, match="chunk 0 holds NaN"):
        draw(0, poison=True)


def test_a_recorded_prior_gives_the_same_latents_chunk_after_chunk(monkeypatch):
    """The conditions of each chunk go in as tensors; recording is done once."""
    recorded_calls = []

    def record(function, inputs):
        recorded_calls.append(1)
        fixed = tuple(x.clone() for x in inputs)

        def play(*given):
            for ours, theirs in zip(fixed, given):
                ours.copy_(theirs)
            return tuple(x.clone() for x in function(*fixed))

        return play

    monkeypatch.setattr(sampling, "Captured", lambda f, say: graph_capture.Captured(f, say, record))
    prior, device = Halves(), torch.device("cpu")
    options = SampleOptions(n=6, batch=3, steps=5, guidance=2.5, clamp=1.5)
    recorded = Recorded(prior, options, device, lambda line: pytest.fail(line))
    for chunk in (0, 1):
        ages = torch.tensor([0.1, -0.4, 0.9]) * (chunk + 1)
        cond = Conditions({"age": ages}, {"age": torch.tensor([True, False, True])})
        noise = sample_noise(0, sampling.indices_of(chunk, 3), SHAPE)
        plain = latents_from(noise, prior, ddpm(Ddpm(), None), options, device, cond=cond)
        played = latents_from(noise, prior, ddpm(Ddpm(), None), options, device, cond=cond, recorded=recorded)
        assert torch.equal(plain, played)
    assert len(recorded_calls) == 1


@pytest.mark.parametrize("spacing", ["path", "uniform", "log-snr", "edm"])
def test_a_sampler_walks_along_the_times_that_are_asked_for(spacing):
    prior, seen = Halves(), []
    options = SampleOptions(batch=2, steps=6, spacing=spacing)
    noise = sample_noise(0, [0, 1], SHAPE)
    watch = lambda t, *_: seen.append(t)
    z = latents_from(noise, prior, ddpm(Ddpm(), None), options, torch.device("cpu"), watch)
    assert torch.isfinite(z).all() and len(seen) == 6 and seen[0] == 1.0
    levels = -0.5 * prior.path.log_snr(torch.tensor(seen, dtype=torch.float64))  # ln(sigma / alpha)
    even = {
        "path": torch.tensor(seen) * 20,  # the schedule's whole steps
        "uniform": torch.tensor(seen),
        "log-snr": levels,
        "edm": (levels / 7).exp(),
    }[spacing]
    if spacing == "path":
        assert torch.equal(even, even.round())
    else:
        assert torch.allclose(even.diff(), even.diff().mean().expand(5), rtol=1e-5)
        assert seen[-1] == pytest.approx(1 / 6 if spacing == "uniform" else 1 / 20)
