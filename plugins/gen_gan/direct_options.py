"""Settings of the sampler `direct`."""

from __future__ import annotations

from attrs import field, frozen, validators


@frozen
class Direct:
    """[sampler] use = "direct": one draw of a one-shot prior."""

    # psi: 1 draws from the whole distribution, 0 its mean, between them typical samples at the cost of variety
    truncation: float = field(default=1.0, validator=[validators.ge(0.0), validators.le(1.0)])
