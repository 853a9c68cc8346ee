"""One Adam a group, learning rates as pure functions of the step, and optimizer state by parameter name.

Source: Kingma & Ba 2015 (Adam); Loshchilov & Hutter 2019 (AdamW) and 2017, eq. 5 (cosine, no restarts).
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gen_core.errors import RecipeError, RunError
from gen_core.options import FitOptions
from gen_core.trainable import Trainable

GROUP_KEYS = ("lr", "weight_decay", "beta1", "beta2", "clip")  # what [<component>.fit.groups.<name>] may set


class Group:
    """The parameters of one group, by name, and their optimizer (None for a group without parameters)."""

    def __init__(self, name: str, parameters: dict[str, nn.Parameter], options: FitOptions) -> None:
        own = options.groups.get(name, {})
        self.name = name
        self.names = list(parameters)
        self.parameters = list(parameters.values())
        self.lr = own.get("lr", options.lr)
        self.clip = own.get("clip", options.clip)
        self.optimizer: torch.optim.Optimizer | None = None
        if self.parameters:
            kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.optimizer]
            self.optimizer = kind(
                self.parameters,
                lr=self.lr,
                betas=(own.get("beta1", options.betas[0]), own.get("beta2", options.betas[1])),
                weight_decay=own.get("weight_decay", options.weight_decay),
                **_implementation(self.parameters),
            )

    def gradients(self, *, only: Container[str] | None = None, without: Container[str] = ()) -> list[Tensor]:
        """The gradients that are there, of parameters of these names."""
        return [
            p.grad
            for name, p in zip(self.names, self.parameters)
            if p.grad is not None and name not in without and (only is None or name in only)
        ]

    def step(self, factor: float) -> None:
        """One update with the group's learning rate times `factor`."""
        if self.optimizer is None:
            return
        for entry in self.optimizer.param_groups:
            entry["lr"] = self.lr * factor
        self.optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """ "<parameter name>/<quantity>" -> tensor, for parameters that were ever stepped."""
        if self.optimizer is None:
            return {}
        flat = {}
        for name, parameter in zip(self.names, self.parameters):
            for quantity, value in self.optimizer.state.get(parameter, {}).items():
                flat[f"{name}/{quantity}"] = torch.as_tensor(value)
        return flat

    def load(self, flat: dict[str, Tensor]) -> None:
        """The inverse of `state`. Raises: RunError naming a parameter that does not fit."""
        if self.optimizer is None:
            return
        index = {name: i for i, name in enumerate(self.names)}
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in flat.items():
            name, _, quantity = key.rpartition("/")
            if name not in index:
                raise RunError(f"optimizer state of group '{self.name}' has a stranger: {name}")
            shape = self.parameters[index[name]].shape
            if quantity != "step" and value.shape != shape:
                raise RunError(
                    f"optimizer state of group '{self.name}': {key} is {tuple(value.shape)}, "
                    f"the parameter {tuple(shape)}"
                )
            state.setdefault(index[name], {})[quantity] = value
        # load_state_dict knows on which device each quantity has to lie
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})


def make_groups(
    module: Trainable, options: FitOptions, pieces: Mapping[str, nn.Parameter] | None = None
) -> dict[str, Group]:
    """One `Group` for each of `module.groups()`, in that order. pieces: what is optimized in place of a parameter.

    Raises: RecipeError for a setting of a group that does not exist, or an unknown setting.
    """
    modules = module.groups()
    problems = [
        f"fit.groups: no group '{name}'; this component has {', '.join(modules)}"
        for name in options.groups
        if name not in modules
    ]
    for name, own in options.groups.items():
        problems += [
            f"fit.groups.{name}: unknown key '{key}'; expected one of {', '.join(GROUP_KEYS)}"
            for key in own
            if key not in GROUP_KEYS
        ]
    if problems:
        raise RecipeError(problems)
    names = {id(p): n for n, p in module.named_parameters()}
    groups, owner = {}, {}
    for group, members in modules.items():
        parameters = {}
        for member in members:
            for parameter in member.parameters():
                if parameter.requires_grad:
                    name = names[id(parameter)]
                    parameters[name] = (pieces or {}).get(name, parameter)
        for name in parameters:
            assert owner.setdefault(name, group) == group, f"{name} is in groups {owner[name]} and {group}"
        groups[group] = Group(group, parameters, options)
    return groups


def lr_factor(step: int, options: FitOptions) -> float:
    """What the learning rate is multiplied by in step `step` (0-based).

    Warm-up: (step + 1) / warmup. Then constant 1, or cosine 0.5 (1 + cos(pi u)), u rising from 0 towards 1
    over the steps that remain.
    """
    if step < options.warmup:
        return (step + 1) / options.warmup
    if options.schedule == "constant":
        return 1.0
    u = (step - options.warmup) / max(1, options.steps - options.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, u)))


def _implementation(parameters: list[nn.Parameter]) -> dict[str, Any]:
    """Fused where torch has it, else one kernel over all tensors, where that helps."""
    if all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters):
        return {"fused": True}
    return {"foreach": True}
