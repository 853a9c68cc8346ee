"""The discrete noise path lives in core; this name hands it on."""

from __future__ import annotations

from gen_core.ddpm.discrete_path import DiscretePath

__all__ = ["DiscretePath"]
