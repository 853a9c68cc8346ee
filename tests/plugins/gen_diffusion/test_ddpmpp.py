"""The prior `ddpm++`: its contract on every path, exact scores of Gaussian data, conditions, precision, settings."""

import warnings

import pytest
import torch
from attrs import evolve

from gen_core.batch import Batch
from gen_core.condition import Conditions, ConditionSpec
from gen_core.prior import PriorContext
from gen_core.testing.diffusion import gaussian_denoise
from gen_core.testing.trainables import check_prior, check_trainable
from gen_core.trainable import Step
from gen_diffusion.ddpmpp import build
from gen_diffusion.ddpmpp_options import Ddpmpp

SHAPE = (3, 2, 5, 6)
TINY = Ddpmpp(base=8, multipliers=(1, 2), attention=(False, True), blocks=1, dropout=0.0)
SPECS = {
    "kind": ConditionSpec("class", ("solid", "part-solid", "ground-glass")),
    "age": ConditionSpec("scalar", low=20.0, high=90.0),
    "lesion": ConditionSpec("mask"),
    "coarse": ConditionSpec("volume", channels=2),
}
SETTINGS = [
    {},
    {"path": "sub-vp", "predict": "score", "block": "ddpm"},
    {"path": "ve", "time": "fourier", "progressive_input": "residual", "resample": "fir"},
    {"path": "edm", "predict": "edm", "head_channels": 4},
    {"path": "vp", "predict": "edm"},
    {"path": "rectified-flow", "predict": "velocity"},
    {"path": "rectified-flow", "predict": "edm"},
    {"weighting": "likelihood", "times": "log-snr", "dropout": 0.0},
]


def tiny(shape=SHAPE, specs=None, random=True, **kw):
    """Its zero-initialized layers filled, or every network would say zero; those of conditions stay zero."""
    torch.manual_seed(0)
    prior = build(evolve(TINY, **kw), PriorContext(shape=shape, conditions=specs or {}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in prior.network.named_parameters():
            if random and not name.startswith("first_grid") and "cross" not in name and not p.any() and p.ndim > 1:
                p.copy_((1.0 / p[0].numel()) ** 0.5 * torch.randn(p.shape, generator=generator))
    return prior


def facts(n, shape=SHAPE, seed=0):
    g = torch.Generator().manual_seed(seed)
    values = {
        "kind": torch.randint(0, 3, (n,), generator=g),
        "age": 2 * torch.rand(n, generator=g) - 1,
        "lesion": torch.rand(n, 1, *shape[1:], generator=g),
        "coarse": torch.randn(n, 2, *shape[1:], generator=g),
    }
    return Conditions(values, {name: torch.ones(n, dtype=torch.bool) for name in values})


def step(seed=0):
    return Step(0, 0, 10, torch.Generator().manual_seed(seed), torch.device("cpu"))


def fitted(prior, draw, steps, lr):
    """Some steps of Adam on batches of `draw(i)`; the losses."""
    adam, losses = torch.optim.Adam(prior.parameters(), lr=lr), []
    for i in range(steps):
        z, cond = draw(i)
        (part,) = prior.training_step(Batch(z, condition=cond.values, present=cond.present), step(i))
        adam.zero_grad(), part.losses["loss"].backward(), adam.step()
        losses.append(part.losses["loss"].item())
    return losses


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_prior_keeps_the_contract_on_every_path(settings):
    check_prior(tiny(**settings))


@pytest.mark.parametrize("embed", ["added", "cross-attention"])
def test_the_prior_keeps_the_contract_with_conditions(embed):
    prior, cond = tiny(specs=SPECS, embed=embed), facts(4)
    batch = Batch(torch.randn(4, *SHAPE), condition=cond.values, present=cond.present)
    check_prior(prior, facts(3), batch)
    check_trainable(prior, batch)


class Exact(torch.nn.Module):
    """A "network" that says what is optimal for data N(0.4, 0.6^2): what any of the parametrizations should learn."""

    def __init__(self, prior):
        super().__init__()
        self.prior, self.denoise = [prior], gaussian_denoise(prior.path, 0.4, 0.6)

    def at(self, t):
        self.t = t
        return self

    def forward(self, z, time, told):
        m = self.prior[0].meaning(self.t)
        z_t = z.double() / m.input.view(-1, 1, 1, 1, 1)
        z_0, eps = self.denoise(z_t, self.t)
        wide = lambda value: value.view(-1, 1, 1, 1, 1)
        if bool((m.s.abs() > 1e-3).all()):
            return ((eps - wide(m.r) * z_t) / wide(m.s)).float()
        return ((z_0 - wide(m.p) * z_t) / wide(m.q)).float()


@pytest.mark.parametrize("settings", SETTINGS)
def test_denoising_and_losses_are_those_of_the_exact_score_of_gaussian_data(settings):
    prior = tiny((1, 1, 16, 24), random=False, **settings)
    prior.network = Exact(prior)
    generator, n = torch.Generator().manual_seed(0), 60
    for at in (0.05, 0.4, 0.97):
        t = torch.full((n,), at, dtype=torch.float64)
        alpha, sigma = prior.path.alpha(t)[0].item(), prior.path.sigma(t)[0].item()
        z_0 = 0.4 + 0.6 * torch.randn(n, 1, 1, 16, 24, generator=generator)
        eps = torch.randn(z_0.shape, generator=generator)
        z_t = alpha * z_0 + sigma * eps
        prior.network.at(t)
        score = -prior.denoise(z_t, t)[1] / sigma
        variance = (0.6 * alpha) ** 2 + sigma**2
        want = -(z_t - 0.4 * alpha) / variance
        torch.testing.assert_close(score, want, rtol=2e-3, atol=2e-3 / sigma)
        # what is left of eps when z_t is known: its variance in closed form
        loss, square = prior.errors(z_0, t, eps, None)
        assert square.mean().item() == pytest.approx((0.6 * alpha) ** 2 / variance, rel=0.05)
        assert loss.isfinite().all() and (loss >= 0).all()


@pytest.mark.parametrize(
    "settings",
    [{}, {"path": "ve"}, {"path": "edm", "predict": "edm"}, {"path": "rectified-flow", "predict": "velocity"}],
)
def test_a_fitted_network_knows_the_score_of_gaussian_data(settings):
    prior = tiny((1, 1, 4, 4), random=False, multipliers=(1,), attention=(False,), **settings)
    noise = torch.Generator().manual_seed(3)
    draw = lambda i: (0.4 + 0.6 * torch.randn(64, 1, 1, 4, 4, generator=noise), Conditions())
    prior.train()
    fitted(prior, draw, 100, lr=6e-3)
    prior.eval()
    exact = gaussian_denoise(prior.path, 0.4, 0.6)
    z_0, eps = draw(0)[0], torch.randn(64, 1, 1, 4, 4, generator=noise)
    middle = prior.path.log_snr_inverse(torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64))
    for at in middle:  # where there is something to know: neither all data nor all noise
        t = at.expand(64)
        z_t = (prior.path.alpha(at) * z_0 + prior.path.sigma(at) * eps).float()
        with torch.no_grad():
            found, want = prior.denoise(z_t, t)[1], exact(z_t, t)[1]
        off = ((found - want).square().mean() / want.square().mean()).item()
        assert off < 0.06, (float(at), off)  # of the exact one's square


def test_the_density_of_velocity_is_that_of_its_own_path():
    prior = tiny(path="rectified-flow", predict="velocity")
    z, t = torch.randn(3, *SHAPE), torch.tensor([0.2, 0.7, 1.0])
    z_0, eps = prior.denoise(z, t)
    out = prior.predict(z, t, None)
    torch.testing.assert_close(eps - z_0, out, rtol=1e-4, atol=1e-5)  # dz/dt
    assert z_0.isfinite().all()  # at t = 1 too, where alpha is 0


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_starts_as_the_best_guess_without_a_network(settings):
    prior = tiny(random=False, **settings)
    z, t = torch.randn(3, *SHAPE), torch.tensor([0.2, 0.7, 1.0])
    assert prior.predict(z, t, None).abs().max() == 0
    z_0, eps = prior.denoise(z, t)
    assert z_0.isfinite().all() and eps.isfinite().all()


@pytest.mark.parametrize("shape", [(3, 1, 9, 10), (2, 5, 3, 7), (1, 3, 4, 1), (2, 1, 1, 1)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"block": "ddpm", "progressive_input": "residual"}, {"resample": "fir", "progressive_input": "residual"}],
)
def test_odd_thin_and_flat_latents_come_back_at_their_own_size(shape, settings):
    prior = tiny(shape, multipliers=(1, 1, 2), attention=(False, False, True), **settings)
    z = torch.randn(2, *shape, requires_grad=True)
    eps = prior.denoise(z, torch.tensor([0.3, 0.8]))[1]
    assert eps.shape == z.shape and eps.isfinite().all() and eps.abs().max() > 0
    eps.square().sum().backward()
    assert (z.grad.abs().amin(dim=(0, 1)) > 0).all()  # every corner reaches the output


def test_only_the_chosen_axes_are_halved():
    sizes = []
    for axes in ("HW", "DHW"):
        prior = tiny((2, 4, 8, 8), down_axes=axes)
        prior.network.middle.register_forward_hook(lambda m, args, out: sizes.append(tuple(out.shape[1:4])))
        prior.denoise(torch.randn(1, 2, 4, 8, 8), torch.ones(1))
    assert sizes == [(4, 4, 4), (2, 4, 4)]


def test_bf16_autocast_stays_near_float32_forward_and_backward():
    shape = (3, 4, 8, 6)
    z, t = torch.randn(3, *shape), torch.tensor([0.1, 0.5, 1.0])
    for settings in ({"embed": "cross-attention"}, {"resample": "fir", "progressive_input": "residual"}):
        grads, outs = [], []
        for on in (False, True):
            prior = tiny(shape, SPECS, **settings)
            with torch.autocast("cpu", torch.bfloat16, enabled=on), warnings.catch_warnings():
                warnings.simplefilter("error")
                times = prior.network.times(torch.tensor([998.0]))
                eps = prior.denoise(z, t, facts(3, shape))[1]
            assert eps.dtype == torch.float32 and all(x.dtype == torch.float32 for x in times)
            eps.square().mean().backward()
            outs.append(eps.detach())
            grads.append({n: p.grad for n, p in prior.named_parameters() if p.grad is not None})
        assert (outs[0] - outs[1]).norm() <= 0.03 * outs[0].norm()
        largest = max(g.norm() for g in grads[0].values())
        for name, grad in grads[0].items():
            if grad.norm() > 1e-3 * largest:
                cosine = torch.cosine_similarity(grad.flatten(), grads[1][name].flatten(), dim=0)
                assert cosine > 0.96, (name, cosine)


def test_checkpointed_activations_give_the_same_gradients_with_dropout_too():
    grads, z, cond = [], torch.randn(2, *SHAPE), facts(2)
    for on in (False, True):
        prior = tiny(specs=SPECS, embed="cross-attention", dropout=0.3).train()
        prior.checkpoint_activations(on)
        assert prior.network.checkpointing == on
        torch.manual_seed(5)
        (part,) = prior.training_step(Batch(z, condition=cond.values, present=cond.present), step())
        part.losses["loss"].backward()
        grads.append([p.grad for p in prior.parameters()])
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=0)


def test_conditions_start_without_a_say():
    z, t = torch.randn(3, *SHAPE), torch.tensor([0.2, 0.6, 0.9])
    told, plain = tiny(specs=SPECS), tiny()
    for got, want in zip(told.denoise(z, t, facts(3)), plain.denoise(z, t)):
        assert torch.equal(got, want) and want.abs().max() > 0
    crossed = tiny(specs=SPECS, embed="cross-attention")
    assert torch.equal(crossed.denoise(z, t, facts(3))[1], crossed.denoise(z, t)[1])


@pytest.mark.parametrize("embed", ["added", "cross-attention"])
def test_after_training_each_condition_matters_and_absent_ones_do_not(embed):
    prior, z, cond = tiny(specs=SPECS, embed=embed), torch.randn(6, *SHAPE), facts(6)
    fitted(prior, lambda i: (z, cond), 3, lr=1e-2)
    prior.eval()
    t = torch.linspace(0.2, 0.9, 6)
    full = prior.denoise(z, t, cond)[1]
    other = facts(6, seed=1)
    other.values["kind"] = (cond.values["kind"] + 1) % 3
    for name in SPECS:
        changed = Conditions(cond.values | {name: other.values[name]}, cond.present)
        assert (prior.denoise(z, t, changed)[1] - full).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-6, name
        absent = cond.present | {name: torch.zeros(6, dtype=torch.bool)}
        a = prior.denoise(z, t, Conditions(cond.values, absent))[1]
        assert torch.equal(a, prior.denoise(z, t, Conditions(changed.values, absent))[1]), name
        without = [n for n in SPECS if n != name]
        left_out = Conditions({n: cond.values[n] for n in without}, {n: cond.present[n] for n in without})
        assert torch.equal(prior.denoise(z, t, left_out)[1], a)
    assert torch.equal(prior.denoise(z, t)[1], prior.denoise(z, t, cond.absent())[1])


def test_a_dry_run_on_the_meta_device_tells_shapes():
    meta = torch.device("meta")
    with meta:
        o = evolve(TINY, time="fourier", resample="fir", progressive_input="residual", embed="cross-attention")
        prior = build(o, PriorContext(shape=(3, 8, 16, 16), conditions=SPECS)).to(meta)
        z = torch.empty(2, 3, 8, 16, 16)
        eps = prior.denoise(z, torch.empty(2))[1]
        (part,) = prior.training_step(Batch(z), Step(0, 0, 1, torch.Generator(), torch.device("cpu")))
    assert eps.is_meta and eps.shape == z.shape and part.losses["loss"].is_meta


def test_the_published_system_is_the_default():
    o = Ddpmpp()
    assert (o.base, o.multipliers, o.blocks, o.dropout, o.norm_groups) == (128, (1, 2, 2, 2), 4, 0.1, 32)
    assert (o.block, o.resample, o.progressive_input, o.rescale, o.time) == (
        "biggan", "average", "none", True, "positional",
    )  # fmt: skip
    assert (o.path, o.beta_min, o.beta_max, o.predict, o.smallest_t) == ("vp", 0.1, 20.0, "eps", 1e-5)
    assert (o.fit.optimizer, o.fit.lr, o.fit.warmup, o.fit.clip, o.fit.ema) == ("adam", 2e-4, 5000, 1.0, 0.9999)
    assert evolve(o, path="ve").sigma_ends == (0.01, 50.0)
    assert evolve(o, path="edm").sigma_ends == (0.002, 80.0)


def test_each_prediction_draws_the_times_of_its_paper():
    kinds = lambda **kw: (lambda times: (times.kind, times.mean, times.sd))(tiny(**kw).times)
    assert kinds() == ("uniform", 0.0, 1.0)
    assert kinds(path="edm", predict="edm") == ("log-normal", -1.2, 1.2)
    assert kinds(path="rectified-flow", predict="velocity") == ("logit-normal", 0.0, 1.0)
    assert kinds(times="log-normal", times_mean=-0.4, times_sd=1.0) == ("log-normal", -0.4, 1.0)
    assert tiny(path="edm", predict="edm").path.spacing == "edm"
    assert tiny(spacing="log-snr").path.spacing == "log-snr"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base": 10}, "'base' must be a multiple of 4"),
        ({"multipliers": ()}, "at least one integer"),
        ({"attention": (True,)}, "each of 2 levels, got 1"),
        ({"head_channels": 5}, "must divide the channels where there is attention"),
        ({"path": "rectified-flow"}, "needs 'velocity' or 'edm'"),
        ({"predict": "velocity"}, "goes with path = 'rectified-flow'"),
        ({"weighting": "likelihood"}, "needs 'uniform' or 'log-snr'"),
        ({"beta_min": 30.0}, "beta_max: must be at least beta_min = 30"),
        ({"path": "ve", "sigma_max": 0.005}, "must be above sigma_min = 0.01"),
        ({"times_sd": 0.0}, "times_sd: must be above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError) as error:
        evolve(TINY, **settings)
    assert message in str(error.value)
