"""The exact log-likelihood of latents under a diffusion prior, by its probability flow and Hutchinson's trace.

Sources: Song et al. 2021 (score SDE), eq. 39 and appendix D.2; Grathwohl et al. 2019 (FFJORD), section 3.
"""

from __future__ import annotations

from math import log, pi, sin

import torch
from torch import Tensor

from gen_core.flow.dormand_prince import State, integrate
from gen_core.flow.probability_flow import angle, first_time, radius, velocity
from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise


def log_likelihood(
    denoise: Denoise,
    path: NoisePath,
    z: Tensor,
    noise: Noise,
    *,
    probes: int = 1,
    end: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    evaluations: int = 10_000,
) -> Tensor:
    """ln p(z) in nats, (B,) float64, of z (B, ...) taken as z_t at t = `end` (a discrete path: its first step).

    denoise: differentiable. noise: the signs of noise(0..probes - 1) are the Rademacher probes of the trace, the same
    all along the flow; the estimate is unbiased, and exact for a Jacobian that is diagonal.
    At t = 1 z is taken to be normal with sd sigma(1). Raises: RunError when the flow needs too many evaluations.
    """
    if not path.steps:
        end = max(end, 1e-8)
    t_0 = first_time(path, end)
    flow, size = velocity(denoise, path), z[0].numel()
    signs = [torch.where(noise(k) < 0, -1.0, 1.0).to(z.dtype) for k in range(probes)]

    def slope(state: State, theta: Tensor) -> State:
        u = state[0].detach()
        with torch.enable_grad():
            u.requires_grad_()
            v = flow(u, theta)
            traces = [
                (torch.autograd.grad(v, u, e, retain_graph=k + 1 < probes)[0] * e).double().flatten(1).sum(1)
                for k, e in enumerate(signs)
            ]
        return v.detach(), torch.stack(traces).mean(0)

    at = torch.full((len(z),), t_0, dtype=torch.float64, device=z.device)
    scale = radius(path, at)
    theta_0, theta_1 = angle(path, t_0), angle(path, 1.0)
    u = z / scale.to(z.dtype).reshape(-1, *(1,) * (z.ndim - 1))
    start = (u, torch.zeros_like(scale))
    u, change = integrate(slope, start, theta_0, theta_1, rtol=rtol, atol=atol, evaluations=evaluations)
    sd = sin(theta_1)  # of u where it is noise
    normal = -0.5 * (u.double() / sd).square().flatten(1).sum(1) - size * (0.5 * log(2 * pi) + log(sd))
    return normal + change - size * scale.log()


def bits_per_dim(log_p: Tensor, size: int) -> Tensor:
    """-log2 p over the number of values."""
    return -log_p / (size * log(2.0))
