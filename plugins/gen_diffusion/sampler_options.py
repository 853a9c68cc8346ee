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
