"""Settings of the codec `identity`: none."""

from __future__ import annotations

from attrs import frozen


@frozen
class IdentityOptions:
    """[codec] use = "identity"."""
