"""Weights that are cut over the processes: each keeps a piece of every large tensor, and all that belongs to it.

`fit.shard = true` is for a network that does not fit on one device. `torch.distributed.fsdp.fully_shard` gathers a
block's weights when its forward or backward needs them, and hands each process its piece of the gradient's sum. All
else here works on plain tensors, the pieces: they share memory with what fully_shard keeps, so the optimizer, the
clipping and the averages see nothing unusual. Checkpoints hold whole tensors, whatever wrote them.

A piece is the part of torch.chunk along the first axis. Source: Rajbhandari et al. 2020 (ZeRO, stage 3); Zhao et al.
2023 (FSDP).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gen_core.engine.ranks import Ranks
from gen_core.errors import RecipeError
from gen_core.options import METRICS, FitOptions
from gen_core.trainable import Trainable


class Shards:
    """What of a module is cut; false when nothing is. pieces: parameter name -> this process's part, a leaf tensor."""

    def __init__(self) -> None:
        self.pieces: dict[str, nn.Parameter] = {}
        self._cut: dict[str, nn.Parameter] = {}  # as the module holds them: DTensors
        self._world, self._leads = 1, True

    def __bool__(self) -> bool:
        return bool(self.pieces)

    @classmethod
    def of(cls, module: Trainable, options: FitOptions, ranks: Ranks, device: torch.device) -> Shards:
        """Cut `module`, in place, and move what is cut to `device`, block by block; the rest stays where it is.

        All processes call this with equal weights. Raises: RecipeError for what cannot be cut.
        """
        require_shardable(module, options, ranks)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

        mesh = init_device_mesh(device.type, (ranks.world,))
        scalars = {p for p in module.parameters() if p.ndim == 0}  # there is nothing to cut
        for block in module.shardable():
            # the outermost too: left whole after a validation, it would not see the weights of the next step
            fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=scalars)
        found = cls()
        found._world, found._leads = ranks.world, ranks.leads
        for name, parameter in module.named_parameters():
            if isinstance(parameter, DTensor):
                found._cut[name] = parameter
                local = parameter.detach().to_local()
                found.pieces[name] = nn.Parameter(local, requires_grad=parameter.requires_grad)
        return found

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Hand on our pieces of the gradients' sum over all processes; fully_shard leaves the mean."""
        taken = []
        for name, parameter in self._cut.items():
            if parameter.grad is not None:
                taken.append(parameter.grad.to_local())  # type: ignore[attr-defined]
                self.pieces[name].grad, parameter.grad = taken[-1], None
        if taken:
            torch._foreach_mul_(taken, self._world)

    @torch.no_grad()
    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Pieces, by parameter or "<parameter>/<quantity>", as whole tensors on the CPU of the first process.

        All processes call this; the others get nothing. One tensor at a time is whole on the device.
        """
        if not self:
            return dict(tensors)
        from torch.distributed.tensor import DTensor

        found = {}
        for key, value in tensors.items():
            cut = self._parameter(key, value)
            if cut is not None and not isinstance(value, DTensor):
                value = _assembled(value.detach(), cut)
            if isinstance(value, DTensor):
                value = value.full_tensor()
            if self._leads:
                found[key] = value.detach().cpu()
        return found

    def ours(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `whole`: of each tensor that is cut, this process's piece."""
        cut = {key: self._parameter(key, value) for key, value in tensors.items()}
        # another shape is left to whoever loads it, who can name it
        fits = lambda value, parameter: parameter is not None and value.shape == parameter.shape
        return {k: _piece(v, cut[k]) if fits(v, cut[k]) else v for k, v in tensors.items()}  # type: ignore[arg-type]

    def _parameter(self, key: str, value: Tensor) -> nn.Parameter | None:
        """The cut parameter that `key` belongs to; None for what is whole: a count of steps, other parameters."""
        name = key if key in self._cut else key.rpartition("/")[0]
        return self._cut.get(name) if value.ndim else None


def require_shardable(module: Trainable, options: FitOptions, ranks: Ranks) -> None:
    """Raises: RecipeError saying why `fit.shard` cannot be."""
    name, why = type(module).__name__, ""
    if not module.shardable() or not module.parallel:
        why = f"{name} cannot be cut over processes (gen_core.trainable: shardable)"
    elif len(module.groups()) > 1:
        why = f"{name} has several groups ({', '.join(module.groups())}), only a component of one can be cut"
    elif ranks.world == 1:
        why = "this is one process alone; start several (torchrun), or take fit.shard out: its checkpoints go on"
    elif options.select.startswith(METRICS):
        why = f"fit.select = '{options.select}' draws samples in one process, which holds a part of the weights"
    if why:
        raise RecipeError(f"fit.shard = true: {why}")


def like(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors cut as those of the same name in `own`, a module's state dict; plain ones as they are."""
    found = dict(tensors)
    for name, value in own.items():
        if name in found and hasattr(value, "placements"):  # as only distributed tensors have
            found[name] = _assembled(_piece(found[name], value).to(value.device), value)
    return found


def _piece(whole: Tensor, cut: Tensor) -> Tensor:
    """This process's part of `whole`, cut as `cut` is: the last ones may be smaller, or empty."""
    mesh = cut.device_mesh  # type: ignore[attr-defined]
    parts = whole.chunk(mesh.size(), 0)
    rank = mesh.get_local_rank()
    # a copy: the whole is let go
    return parts[rank].clone() if rank < len(parts) else whole.new_empty((0, *whole.shape[1:]))


def _assembled(piece: Tensor, cut: Tensor) -> Tensor:
    """A piece as the distributed tensor that `cut` is; says nothing to other processes."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        piece, cut.device_mesh, cut.placements, run_check=False, shape=cut.shape, stride=cut.stride()  # type: ignore[attr-defined]
    )  # fmt: skip
