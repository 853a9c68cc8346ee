"""The probability-flow ODE solved adaptively (Song et al. 2021): deterministic, with tolerances for steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gen_core.denoising import per_sample
from gen_core.flow.dormand_prince import integrate
from gen_core.flow.probability_flow import angle, first_time, radius, velocity
from gen_core.prior import Denoise, NoisePath
from gen_core.sampler import Noise, Sampler
from gen_diffusion.sampler_options import Ode


class OdeSampler(Sampler):
    """From ts[0] to ts[-1] by Dormand-Prince 5(4); a flow to the data stops at t = `end`, and z_0 there is given."""

    steps = 1  # of the grid only its ends are used

    def __init__(self, options: Ode):
        self.options = options

    def sample(self, denoise: Denoise, path: NoisePath, z: Tensor, ts: Tensor, noise: Noise) -> Tensor:
        """Source: Song et al. 2021, section 4.3 and appendix D; z is walked in the angle, for any path."""
        o, begin, end = self.options, float(ts[0]), float(ts[-1])
        stop = end or min(first_time(path, o.end), begin)
        flow = velocity(denoise, path)
        scale = lambda t: per_sample(radius(path, torch.full((len(z),), t, dtype=torch.float64, device=z.device)), z)
        (u,) = integrate(
            lambda state, theta: (flow(state[0], theta),),
            (z / scale(begin),),
            angle(path, begin),
            angle(path, stop),
            rtol=o.rtol,
            atol=o.atol,
            evaluations=o.evaluations,
        )
        z = scale(stop) * u
        return z if end > 0 else denoise(z, torch.full((len(z),), stop, dtype=torch.float64, device=z.device))[0]


def build(options: Ode, context: Any = None) -> OdeSampler:
    """The ODE sampler of `options`."""
    return OdeSampler(options)
