"""Fingerprints: what a step's result depends on, in one hash, and the difference between two of them in words."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from gen_core.options import METRICS

HARMLESS_FIT = ("checkpoint_every", "log_every", "workers", "shard")
"""Keys of a fit that change how it is run, never what comes out."""


def canonical(data: Any) -> str:
    """JSON with sorted keys: equal data, equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | set | frozenset):
        return sorted(value) if isinstance(value, set | frozenset) else list(value)
    raise TypeError(f"{type(value).__name__} has no place in a fingerprint")


def fingerprint(data: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def depends(options: dict[str, Any]) -> dict[str, Any]:
    """Component settings without those that cannot change the result."""
    options = dict(options)
    fit = options.get("fit")
    if isinstance(fit, dict):
        drop = set(HARMLESS_FIT) | ({"crop"} if not fit.get("crop") else set())
        if not fit.get("select"):
            drop |= {"validate_every", "validate_volumes"}  # validation only looks, unless it selects
        if not fit.get("select", "").startswith(METRICS):
            drop |= {"select_samples", "select_steps"}  # only a metric's
        options["fit"] = {k: v for k, v in fit.items() if k not in drop}
    return options


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """One line for each leaf that differs: `key: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for name in sorted(old.keys() | new.keys()):
            lines += differences(
                old.get(name, "(not set)"), new.get(name, "(not set)"), f"{key}.{name}" if key else name
            )
        return lines
    if canonical(old) == canonical(new):
        return []
    return [f"{key}: {canonical(old)} -> {canonical(new)}"]
