"""Settings of the diffusion samplers. `steps` is what a recipe gets that leaves `[sample] steps` at 0."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen, validators

from gen_core.options import positive


@frozen
class Ddpm:
    """[sampler] use = "ddpm": ancestral sampling over all T steps, or over fewer (respaced)."""

    steps: int = positive(300)
    # Variance of z_{t-1} given z_t: that of the posterior q(z_{t-1} | z_t, z_0) ("fixed-small"), or beta_t.
    variance: Literal["posterior", "beta"] = "posterior"


@frozen
class Ddim:
    """[sampler] use = "ddim"."""

    steps: int = positive(50)
    eta: float = field(default=0.0, validator=[validators.ge(0.0), validators.le(1.0)])  # 1 = ancestral noise


@frozen
class DpmPlusPlus2M:
    """[sampler] use = "dpm++2m"."""

    steps: int = positive(25)


@frozen
class DpmPlusPlus2MSde:
    """[sampler] use = "dpm++2m-sde"."""

    steps: int = positive(25)
    eta: float = field(default=1.0, validator=[validators.ge(0.0), validators.le(1.0)])  # 0 = dpm++2m


@frozen
class Unipc:
    """[sampler] use = "unipc"."""

    steps: int = positive(20)
    order: int = field(default=2, validator=[validators.ge(1), validators.le(3)])  # of the predictor
    variant: Literal["bh1", "bh2"] = "bh2"  # B(h) = h, for few steps without conditions, or e^h - 1


@frozen
class Heun:
    """[sampler] use = "heun": EDM's; noise levels are sigma / alpha."""

    steps: int = positive(18)
    S_churn: float = field(default=0.0, validator=validators.ge(0.0))  # 0 = deterministic; shared among the steps
    S_tmin: float = field(default=0.0, validator=validators.ge(0.0))  # churn only at noise levels in [S_tmin, S_tmax]
    S_tmax: float = field(default=0.0, validator=validators.ge(0.0))  # 0 = no upper limit
    S_noise: float = field(default=1.0, validator=validators.ge(0.0))  # sd of the churned noise


@frozen
class EulerMaruyama:
    """[sampler] use = "euler-maruyama"."""

    steps: int = positive(500)


@frozen
class PredictorCorrector:
    """[sampler] use = "predictor-corrector"; 1 + corrections network evaluations a step."""

    steps: int = positive(250)
    corrections: int = field(default=1, validator=validators.ge(0))  # Langevin steps after each predictor step
    snr: float = positive(0.16)  # |step of the score| / |noise| of a Langevin step
    predictor: Literal["euler-maruyama", "ancestral"] = "euler-maruyama"


@frozen
class Ode:
    """[sampler] use = "ode": the steps are the solver's own; [sample] steps has no effect."""

    rtol: float = positive(1e-5)
    atol: float = positive(1e-5)
    end: float = field(default=1e-3, validator=[validators.gt(0.0), validators.lt(1.0)])  # t where denoising takes over
    evaluations: int = positive(10_000)  # of the network at most; a run that needs more fails


@frozen
class RectifiedFlow:
    """[sampler] use = "rectified-flow"."""

    steps: int = positive(50)
    method: Literal["euler", "heun"] = "euler"  # one or two network evaluations a step
