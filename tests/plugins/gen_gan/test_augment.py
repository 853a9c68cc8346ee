"""The pipeline, its derivatives of second order, and its probability."""

import pytest
import torch

from gen_gan.augment import AugmentProbability, augment

EVERYTHING = ("blit", "geometric", "colour", "filter", "noise", "cutout")
seeded = lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_it_keeps_shape_and_dtype_for_any_number_of_channels(channels):
    x = torch.randn(5, channels, 8, 12)
    y = augment(x, 0.7, EVERYTHING, seeded())
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()
    assert torch.equal(y, augment(x, 0.7, EVERYTHING, seeded()))
    assert not torch.equal(y, augment(x, 0.7, EVERYTHING, seeded(1)))


def test_nothing_happens_at_probability_zero_or_without_changes():
    x = torch.randn(5, 3, 8, 12)
    assert augment(x, 0.0, EVERYTHING, seeded()) is x
    assert augment(x, 0.7, (), seeded()) is x


@pytest.mark.parametrize("kind", EVERYTHING)
def test_each_change_befalls_a_share_of_the_samples(kind):
    x = torch.randn(400, 1, 8, 8).double()
    y = augment(x, 0.2, (kind,), seeded())
    changed = ((x - y).abs().flatten(1).amax(1) > 1e-6).double().mean()
    # several changes of one kind, each with probability 0.2: more than a tenth, never all
    assert 0.08 < changed < 0.8


@pytest.mark.parametrize("kind", [*EVERYTHING, "all"])
def test_the_derivative_of_the_derivative_is_right(kind):
    """Through a square, or the second derivative of these affine maps would be zero."""
    x = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    kinds = EVERYTHING if kind == "all" else (kind,)
    bent = lambda x: augment(x, 0.9, kinds, seeded()).pow(2)
    assert torch.autograd.gradcheck(bent, x) and torch.autograd.gradgradcheck(bent, x, fast_mode=True)


def run(controller, logits_of, steps, batch=16, every=4, seed=0):
    """Feed logits drawn as `logits_of(p, n, generator)`; p after every step."""
    g, path = seeded(seed), []
    for i in range(steps):
        controller.observe(logits_of(float(controller.p), batch, g))
        if (i + 1) % every == 0:
            controller.adapt()
        path.append(float(controller.p))
    return path


@pytest.mark.parametrize("start", [0.0, 0.7])
def test_p_settles_where_the_mean_sign_is_its_target(start):
    """A discriminator whose mean sign falls with p as 1 - 1.25 p: at 0.32 it is 0.6."""

    def logits(p, n, g):
        return torch.where(torch.rand(n, generator=g) < 1 - 0.625 * p, 2.0, -0.1)

    path = run(AugmentProbability(0.6, images=20_000, start=start), logits, 3000)
    late = torch.tensor(path[-500:])
    assert abs(float(late.mean()) - 0.32) < 0.03 and float(late.std()) < 0.03


def test_p_rises_by_a_known_amount_and_stops_at_its_most():
    sure = lambda p, n, g: torch.ones(n)
    path = run(AugmentProbability(0.6, images=1600, most=0.8), sure, 100)
    torch.testing.assert_close(path[39], 0.4, atol=1e-9, rtol=0)  # 640 of 1600 images
    assert path[2] == 0.0 and path[-1] == 0.8
    unsure = lambda p, n, g: torch.randn(n, generator=g)
    assert run(AugmentProbability(0.6, images=1600, start=0.2), unsure, 100)[-1] == 0.0


def test_a_target_of_zero_keeps_p():
    controller = AugmentProbability(0.0, images=10, start=0.3)
    assert set(run(controller, lambda p, n, g: torch.ones(n), 20)) == {float(controller.p)}
    assert float(controller.p) == pytest.approx(0.3)


def test_the_state_lies_in_buffers():
    controller = AugmentProbability(0.6, images=100)
    controller.observe(torch.tensor([1.0, -2.0, 3.0]))
    other = AugmentProbability(0.6, images=100)
    other.load_state_dict(controller.state_dict())
    assert {k: float(v) for k, v in other.state_dict().items()} == {"p": 0.0, "signs": 1.0, "seen": 3.0}
