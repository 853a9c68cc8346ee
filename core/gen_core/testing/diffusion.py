"""Contract checks of noise paths and samplers, against closed forms.

The Gaussian target is the one distribution whose optimal denoiser, and so the whole reverse process, is known:
for z_0 ~ N(m, s^2), E[z_0 | z_t] = m + alpha s^2 / (alpha^2 s^2 + sigma^2) (z_t - alpha m).
Source: Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 33 (the path of `LinearPath`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Sampler
from gen_core.testing.say import other_random_numbers, require, require_close


class LinearPath(NoisePath):
    """The variance-preserving path with linear beta(t), in continuous time: ln alpha = -(b1-b0) t^2/4 - b0 t/2."""

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0):
        self.b0, self.b1 = beta_min, beta_max

    def alpha(self, t: Tensor) -> Tensor:
        return (-0.25 * (self.b1 - self.b0) * t**2 - 0.5 * self.b0 * t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        # expm1: 1 - alpha^2 loses all digits near t = 0
        return (-torch.expm1(-0.5 * (self.b1 - self.b0) * t**2 - self.b0 * t)).sqrt()

    def drift(self, t: Tensor) -> Tensor:
        return -0.5 * (self.b0 + (self.b1 - self.b0) * t)

    def diffusion2(self, t: Tensor) -> Tensor:
        return self.b0 + (self.b1 - self.b0) * t  # g^2 = beta: eq. 33

    def log_snr_inverse(self, value: Tensor) -> Tensor:
        # alpha^2 = sigmoid(log SNR), and ln alpha is quadratic in t
        ln_alpha = 0.5 * torch.nn.functional.logsigmoid(value)
        half = 0.5 * self.b0
        return (-half + (half**2 - (self.b1 - self.b0) * ln_alpha).sqrt()) / (0.5 * (self.b1 - self.b0))

    def grid(self, n: int) -> Tensor:
        return torch.linspace(1.0, 0.0, n + 1, dtype=torch.float64)


def check_path(path: NoisePath) -> None:
    """The relations between alpha, sigma, drift, diffusion, log-SNR and the grid. Raises: AssertionError."""
    name = type(path).__name__
    if path.steps:
        # a discrete schedule bends at k / T: differences are taken between the bends
        k = torch.linspace(0, path.steps - 1, min(path.steps, 40), dtype=torch.float64).round().unique()
        t, h = (k + 0.5) / path.steps, 1e-3 / path.steps
        t = t[t > 1.0 / path.steps]  # the first interval starts from sigma = 0
    else:
        t, h = torch.linspace(0.02, 0.98, 49, dtype=torch.float64), 1e-5
    alpha, sigma = path.alpha(t), path.sigma(t)
    for what, value in (("alpha", alpha), ("sigma", sigma)):
        require(value.dtype == torch.float64, f"{name}.{what}(t) of float64 times is {value.dtype}")
        require(value.shape == t.shape, f"{name}.{what}(t): shape {tuple(value.shape)}, t {tuple(t.shape)}")
        require(torch.isfinite(value).all() and (value > 0).all(), f"{name}.{what}(t) is not positive and finite")
    require((alpha.diff() <= 0).all(), f"{name}.alpha rises with t")  # where the data stays (VE), it is constant
    slope = (path.alpha(t + h).log() - path.alpha(t - h).log()) / (2 * h)
    require_relative(path.drift(t), slope, 1e-3, f"{name}.drift is not d ln alpha / dt")
    slope = (path.sigma(t + h) ** 2 - path.sigma(t - h) ** 2) / (2 * h)
    g2 = slope - 2 * path.drift(t) * sigma**2
    require_relative(path.diffusion2(t), g2, 1e-3, f"{name}.diffusion2 is not d sigma^2/dt - 2 f sigma^2")
    require((path.diffusion2(t) >= 0).all(), f"{name}.diffusion2 is negative")
    snr = path.log_snr(t)
    require_close(snr, 2 * (alpha.log() - sigma.log()), 1e-9, f"{name}.log_snr is not ln(alpha^2 / sigma^2)")
    require((snr.diff() < 0).all(), f"{name}.log_snr does not fall with t")
    require_close(path.log_snr_inverse(snr), t, 1e-6, f"{name}.log_snr_inverse(log_snr(t)) is not t")
    for n in (1, 2, 7):
        ts = path.grid(n)
        require(ts.dtype == torch.float64, f"{name}.grid is {ts.dtype}, expected float64")
        require(tuple(ts.shape) == (n + 1,), f"{name}.grid({n}) has {ts.numel()} times, expected {n + 1}")
        require((ts.diff() < 0).all(), f"{name}.grid({n}) does not fall: {ts.tolist()}")
        require(
            abs(ts[0] - 1) < 1e-9 and ts[-1] == 0,
            f"{name}.grid({n}) runs {ts[0]:.6g}..{ts[-1]:.6g}, not 1..0",
        )


def require_relative(a: Tensor, b: Tensor, tolerance: float, sentence: str) -> None:
    """|a - b| <= tolerance (|b| + a thousandth of the largest |b|), each for itself."""
    wrong = ~((a - b).abs() <= tolerance * (b.abs() + 1e-3 * b.abs().max()))
    if wrong.any():
        i = int(wrong.nonzero()[0])
        raise AssertionError(f"{sentence}: {a[i]:.6g} against {b[i]:.6g}")


def gaussian_denoise(path: NoisePath, mean: float, sd: float) -> Denoise:
    """The exact denoiser of z_0 ~ N(mean, sd^2), every element alike."""

    def denoise(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        wide = lambda v: v.reshape(-1, *[1] * (z.ndim - 1))
        t = t.double()
        alpha, sigma = wide(path.alpha(t)), wide(path.sigma(t))
        gain = alpha * sd**2 / (alpha**2 * sd**2 + sigma**2)
        z_0 = mean + gain * (z.double() - alpha * mean)
        eps = (z.double() - alpha * z_0) / sigma.clamp_min(1e-12)
        return z_0.to(z.dtype), eps.to(z.dtype)

    return denoise


def check_sampler(sampler: Sampler, path: NoisePath | None = None, steps: int = 200, tolerance: float = 0.05) -> None:
    """A sampler on a Gaussian target: its mean and deviation must come out; and it must be a pure function.

    path: what it walks along; default LinearPath. tolerance: of mean and standard deviation, absolute, target
    N(0.4, 0.6^2); 12 288 values keep chance below 0.01. Raises: AssertionError with one sentence.
    """
    name, path, mean, sd = type(sampler).__name__, path or LinearPath(), 0.4, 0.6
    require(isinstance(sampler.steps, int) and sampler.steps >= 1, f"{name}.steps must be an integer from 1")
    denoise = gaussian_denoise(path, mean, sd)
    shape = (2048, 1, 1, 2, 3)

    def draw(n: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(n))

    def run(rows: slice, count: int, calls: list[int]) -> Tensor:
        def noise(k: int) -> Tensor:
            calls.append(k)
            return draw(k + 1)[rows]

        ts = path.grid(count)
        z = draw(0)[rows] * path.sigma(ts[:1]).item()
        kept = z.clone()
        z_0 = sampler.sample(denoise, path, z, ts, noise)
        require(torch.equal(z, kept), f"{name}.sample changes its input z in place")
        return z_0

    calls: list[int] = []
    with other_random_numbers(1):
        z_0 = run(slice(None), steps, calls)
    require(z_0.shape == shape, f"{name}.sample: shape {tuple(z_0.shape)}, expected {shape}")
    require(z_0.dtype == torch.float32, f"{name}.sample gives {z_0.dtype} for float32 latents")
    require(torch.isfinite(z_0).all(), f"{name}.sample gives values that are not finite")
    require(
        calls == list(range(len(calls))),
        f"{name}.sample calls noise(k) with k = {calls[:6]}..., expected 0, 1, 2, ... once each",
    )
    got, deviation = z_0.double().mean().item(), z_0.double().std().item()
    require(math.fabs(got - mean) <= tolerance, f"{name}: mean {got:.3f} of a target with {mean} ({steps} steps)")
    require(
        math.fabs(deviation - sd) <= tolerance,
        f"{name}: standard deviation {deviation:.3f} of a target with {sd} ({steps} steps)",
    )
    with other_random_numbers(2):
        part = run(slice(5, 9), steps, [])
    require_close(part, z_0[5:9], 1e-5, f"{name}: samples depend on their neighbours, or on random numbers of its own")
    for count in (1, 2):
        few = run(slice(0, 4), count, [])
        require(torch.isfinite(few).all(), f"{name}.sample with {count} steps gives values that are not finite")
