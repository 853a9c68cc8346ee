"""What every contract check is made of: a sentence when it fails, and comparisons that name what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def require(ok: Any, sentence: str) -> None:
    """Raise AssertionError with `sentence` unless `ok`; unlike `assert`, it is not optimized away."""
    if not bool(ok):
        raise AssertionError(sentence)


def require_json(value: Any, what: str) -> None:
    """`value` must survive JSON unchanged, NaN and infinity excluded."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} is not JSON: {error}") from error
    require(json.loads(text) == json.loads(json.dumps(json.loads(text))), f"{what} does not survive JSON")


def require_close(a: Tensor, b: Tensor, tolerance: float, sentence: str) -> None:
    """max |a - b| <= tolerance * (1 + max |b|); the sentence gets the difference appended."""
    require(a.shape == b.shape, f"{sentence}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
    difference = (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
    scale = 1.0 + (b.double().abs().max().item() if b.numel() else 0.0)
    # the negated form, so that NaN fails
    require(difference <= tolerance * scale, f"{sentence}: they differ by {difference:.3g}")


def snapshot(module: nn.Module) -> dict[str, Any]:
    """Weights, buffers and extra state, copied."""
    extra = getattr(module, "extra_state", dict)()
    return {k: v.clone() for k, v in module.state_dict().items()} | {"extra_state()": json.dumps(extra, sort_keys=True)}


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names whose content differs between two snapshots."""
    names = sorted(before.keys() | after.keys())
    same = lambda a, b: torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
    return [n for n in names if n not in before or n not in after or not same(before[n], after[n])]


@contextmanager
def unchanged(module: nn.Module, what: str) -> Iterator[None]:
    """Nothing of the module's state may change inside; `what` names the call."""
    before, modes = snapshot(module), [m.training for m in module.modules()]
    yield
    names = changed(before, snapshot(module))
    require(not names, f"{what} changes the state of {type(module).__name__}: {', '.join(names[:5])}")
    require(modes == [m.training for m in module.modules()], f"{what} switches between train and eval mode")


@contextmanager
def other_random_numbers(seed: int) -> Iterator[None]:
    """Inside, torch's global generator starts from `seed`; outside nothing is changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
