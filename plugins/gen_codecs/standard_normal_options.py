"""Settings of the prior `standard-normal`; attrs only, so that a recipe resolves without torch."""

from __future__ import annotations

from attrs import field, frozen, validators


@frozen
class StandardNormal:
    """[prior] use = "standard-normal": nothing to fit, hence no [prior.fit]."""

    truncate: float = field(default=0.0, validator=validators.ge(0.0))  # no value beyond so many sd; 0 = off
