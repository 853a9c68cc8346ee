"""Layers that look at the whole batch or draw for it, on several processes: batch norm and dropout.

While a fit runs on several processes, their forward is replaced by one that does on our rows what the layer does on
the whole batch. A single process is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from gen_core import share
from gen_core.engine.ranks import Ranks


@contextmanager
def whole_layers(module: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Inside, batch norms and dropouts of `module` know of the other processes.

    Raises: TypeError for layers of that kind with another forward of their own.
    """
    replaced = []
    try:
        for layer in module.modules() if ranks.world > 1 else ():
            if isinstance(layer, _BatchNorm):
                layer.forward = _norm_of(layer)  # type: ignore[method-assign]
                replaced.append(layer)
            elif isinstance(layer, _DropoutNd) and type(layer) is nn.Dropout and layer.p > 0:
                layer.forward = _dropout_of(layer)  # type: ignore[method-assign]
                replaced.append(layer)
        yield
    finally:
        for layer in replaced:
            del layer.forward


def _norm_of(layer: _BatchNorm) -> object:
    usual = layer.forward

    def forward(x: Tensor) -> Tensor:
        return usual(x) if share.current() is None or not layer.training else whole_batch_norm(layer, x)

    return forward


def whole_batch_norm(layer: _BatchNorm, x: Tensor) -> Tensor:
    """Batch norm with the statistics of all processes' rows, x (B, C, ...); differentiable twice.

    Source: Ioffe & Szegedy 2015, algorithm 1; the running variance is the unbiased one, as torch has it.
    """
    axes = [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    y = x.float()
    n = float(share.total(torch.tensor(x.numel() / x.shape[1], dtype=torch.float64)))
    mean = share.total(y.sum(axes)) / n
    centred = y - mean.view(shape)
    variance = share.total(centred.square().sum(axes)) / n
    if layer.track_running_stats and layer.running_mean is not None:
        with torch.no_grad():
            layer.num_batches_tracked += 1
            rate = 1.0 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean.detach().to(layer.running_mean), rate)
            layer.running_var.lerp_((variance.detach() * (n / max(1.0, n - 1))).to(layer.running_var), rate)
    z = centred * (variance + layer.eps).rsqrt().view(shape)
    if layer.affine:
        z = z * layer.weight.view(shape) + layer.bias.view(shape)
    return z.to(x.dtype)


def _dropout_of(layer: nn.Dropout) -> object:
    usual = layer.forward

    def forward(x: Tensor) -> Tensor:
        if share.current() is None or not layer.training:
            return usual(x)
        # a draw fills memory in its own order, which is that of x: channels may be last
        order = sorted(range(x.ndim), key=lambda axis: -x.stride(axis))
        empty = lambda n: torch.empty_permuted((n, *x.shape[1:]), order, dtype=x.dtype, device=x.device)
        kept = lambda n: empty(n).bernoulli_(1.0 - layer.p)
        return x * share.rows(len(x), kept).div_(1.0 - layer.p)

    return forward
