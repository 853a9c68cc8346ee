"""Denoising score matching: what a network is asked for, at which times, and how much each error counts.

Whatever it was trained to say, z_0 and eps are linear in z_t and its output F: z_0 = p z_t + q F, eps = r z_t + s F,
and score = -eps / sigma. Shape legend: z (B, c, D, H, W); alpha, sigma, t and all coefficients (B,), float64.
Sources: Vincent 2011; Song et al. 2021, eq. 7 (the losses); Song et al. 2021b ("Maximum likelihood training of
score-based diffusion models"), sections 3 and 4.4 (likelihood weighting and its times); Kingma et al. 2021,
appendix A (g^2 / sigma^2 is the slope of the log-SNR); Liu et al. 2023 (velocity); Esser et al. 2024, section 3.1
(logit-normal times); Karras et al. 2022 (EDM).
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from gen_core.denoising import per_sample
from gen_core.prior import NoisePath
from gen_diffusion import edm_preconditioning as edm

SMALLEST = 1e-8  # alpha in a divisor: a path that ends in pure noise stays finite


@frozen(eq=False)
class Meaning:
    """The coefficients above, and what z_t is scaled by before the network sees it."""

    p: Tensor
    q: Tensor
    r: Tensor
    s: Tensor
    input: Tensor

    def read(self, z_t: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """(z_0, eps) of a network's output."""
        p, q, r, s = (per_sample(c.to(z_t.dtype), z_t) for c in (self.p, self.q, self.r, self.s))
        return p * z_t + q * out, r * z_t + s * out


def meaning(predict: str, alpha: Tensor, sigma: Tensor, sigma_data: float) -> Meaning:
    """What the output of a network trained for `predict` ("eps", "score", "velocity", "edm") says.

    "velocity" is eps - z_0, dz/dt of the straight path, on which alpha + sigma = 1. What grows without data's share
    shrinking (alpha = 1: VE) is scaled to unit variance, for data of unit variance.
    """
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    if predict == "edm":
        return Meaning(*edm.on_path(alpha, sigma, sigma_data))
    if predict == "velocity":
        return Meaning(one, -sigma, one, alpha, one)
    inverse = 1.0 / alpha.clamp_min(SMALLEST)
    scale = torch.where(alpha == 1.0, (1.0 + sigma**2).rsqrt(), one)
    if predict == "eps":
        return Meaning(inverse, -sigma * inverse, zero, one, scale)
    return Meaning(inverse, sigma**2 * inverse, zero, -sigma, scale)  # score


def target(predict: str, z_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """What F should be, float32: the output for which `Meaning.read` gives back z_0 and eps."""
    wide = lambda value: per_sample(value.to(z_0.dtype), z_0)
    if predict == "eps":
        return eps
    if predict == "score":
        return -eps / wide(sigma)
    if predict == "velocity":
        return eps - z_0
    scale = sigma_data * (sigma**2 + (alpha * sigma_data) ** 2).sqrt()
    return wide(sigma / scale) * z_0 - wide(alpha * sigma_data**2 / scale) * eps


def loss_weight(predict: str, weighting: str, path: NoisePath, t: Tensor, s: Tensor) -> Tensor:
    """Weight of F's squared error (B,): that of eps is s^2 times it.

    "simple": sigma^2 times the score's error, which is that of eps; of velocity and EDM's network as it is.
    "likelihood": g^2 times the score's error, so g^2 / sigma^2 times that of eps.
    """
    if weighting == "likelihood":
        return path.diffusion2(t) / path.sigma(t) ** 2 * s**2
    return s**2 if predict in ("eps", "score") else torch.ones_like(t)


@frozen
class Times:
    """The distribution of training times: t of its quantile u. mean, sd: of a normal distribution before its map.

    kind: "uniform", "log-snr" (uniform there), "logit-normal" (of t), "log-normal" (of sigma / alpha).
    All times lie in low..high: the score grows without bound towards t = 0.
    """

    kind: str
    path: NoisePath
    low: float
    high: float = 1.0
    mean: float = 0.0
    sd: float = 1.0

    def at(self, u: Tensor) -> Tensor:
        """t (B,) float64 of u (B,) in 0..1."""
        u = u.double()
        if self.kind == "uniform":
            return torch.lerp(u.new_tensor(self.low), u.new_tensor(self.high), u)
        if self.kind == "log-snr":
            first, last = self.path.log_snr(u.new_tensor([self.high, self.low]))
            t = self.path.log_snr_inverse(torch.lerp(first, last, 1.0 - u))
        else:
            normal = self.mean + self.sd * torch.special.ndtri(u.clamp(1e-12, 1.0 - 1e-12))
            t = torch.sigmoid(normal) if self.kind == "logit-normal" else self.path.log_snr_inverse(-2.0 * normal)
        return t.clamp(self.low, self.high)

    def density(self, t: Tensor) -> Tensor:
        """How much more often t is drawn than by the uniform distribution over low..high; "uniform" and "log-snr".

        The log-SNR falls with the slope g^2 / sigma^2, which is just the weight of the likelihood.
        """
        if self.kind == "uniform":
            return torch.ones_like(t)
        assert self.kind == "log-snr", self.kind
        ends = self.path.log_snr(t.new_tensor([self.low, self.high]))
        slope = self.path.diffusion2(t) / self.path.sigma(t) ** 2
        return slope * (self.high - self.low) / (ends[0] - ends[1])
