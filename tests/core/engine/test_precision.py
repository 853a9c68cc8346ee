"""bf16 is autocast; float32 changes nothing."""

from __future__ import annotations

import torch

from gen_core.engine.precision import autocast


def test_bf16_multiplies_in_bfloat16_and_leaves_weights_alone():
    layer, x = torch.nn.Linear(4, 3), torch.randn(2, 4)
    with autocast("bf16", "cpu"):
        y = layer(x)
        assert torch.nn.functional.mse_loss(y, y).dtype == torch.float32
    assert y.dtype == torch.bfloat16 and layer.weight.dtype == torch.float32
    y.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_float32_is_exact():
    layer, x = torch.nn.Linear(4, 3), torch.randn(2, 4)
    with autocast("float32", torch.device("cpu")):
        assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    assert not torch.is_autocast_enabled("cpu")
