"""The attentions against loops over queries and keys, and their rotary and bias tables."""

import math

import pytest
import torch

from gen_diffusion import attention
from gen_diffusion.attention import (
    DepthAttention,
    RelativeBias,
    SpatialAttention,
    SpatialLinearAttention,
    relative_buckets,
    rotary_table,
    rotate,
)

CPU = torch.device("cpu")


def tokens(B=2, D=3, H=4, W=5, C=16):
    return torch.randn(B, D, H, W, C, generator=torch.Generator().manual_seed(0))


def qkv(layer, row):
    """float64 q, k, v of tokens (n, C): (heads, n, d) each, norm written out."""
    row = row.double()
    mean, var = row.mean(-1, keepdim=True), row.var(-1, correction=0, keepdim=True)
    row = (row - mean) / (var + 1e-5).sqrt() * layer.norm.weight.double()
    out = row @ layer.qkv.weight.double().T
    return [a.reshape(len(row), layer.heads, -1).transpose(0, 1) for a in out.chunk(3, -1)]


def close(module, y, row, x):
    """y: (n, heads d) float64 attention output; row: (n, C) what the module gave for x (n, C)."""
    out = y @ module.out.weight.double().T + (0 if module.out.bias is None else module.out.bias.double())
    torch.testing.assert_close(row.double(), x.double() + out, rtol=1e-5, atol=1e-5)


def test_full_space_attention_equals_a_softmax_over_positions_of_one_depth():
    torch.manual_seed(1)
    layer, x = SpatialAttention(16, 2, 6), tokens()
    q, k, v = qkv(layer, x[1, 2].reshape(20, 16))
    share = (q @ k.transpose(1, 2) / math.sqrt(6)).softmax(-1)
    close(
        layer,
        (share @ v).transpose(0, 1).reshape(20, 12),
        layer(x)[1, 2].reshape(20, 16),
        x[1, 2].reshape(20, 16),
    )


def test_linear_attention_equals_its_two_softmaxes_written_as_loops():
    torch.manual_seed(1)
    layer, x = SpatialLinearAttention(16, 2, 6), tokens()
    q, k, v = qkv(layer, x[0, 1].reshape(20, 16))
    q, k = q.softmax(-1) / math.sqrt(6), k.softmax(1)
    y = torch.zeros(2, 20, 6, dtype=torch.float64)
    for n in range(20):
        for m in range(20):
            y[:, n] += (q[:, n] * k[:, m]).sum(-1, keepdim=True) * v[:, m]
    close(layer, y.transpose(0, 1).reshape(20, 12), layer(x)[0, 1].reshape(20, 16), x[0, 1].reshape(20, 16))


@pytest.mark.parametrize("few", [0, 4])
def test_depth_attention_equals_rotated_softmax_with_bias_by_either_way(few, monkeypatch):
    monkeypatch.setattr(attention, "FEW_DEPTHS", few)
    torch.manual_seed(1)
    layer, x, bias = DepthAttention(16, 2, 6), tokens(), torch.randn(2, 3, 3)
    row = x[1, :, 3, 4]
    q, k, v = qkv(layer, row)
    y = torch.zeros(2, 3, 6, dtype=torch.float64)
    for i in range(3):
        scores = []
        for j in range(3):  # rotary: the product of two rotated vectors depends on i - j alone
            score = bias[:, i, j].double().clone()
            for pair in range(3):
                angle = (i - j) * 10_000 ** (-2 * pair / 6)
                a, b = q[:, i, 2 * pair : 2 * pair + 2], k[:, j, 2 * pair : 2 * pair + 2]
                dot, cross = (a * b).sum(-1), a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
                score += (dot * math.cos(angle) + cross * math.sin(angle)) / math.sqrt(6)
            scores.append(score)
        y[:, i] = (torch.stack(scores, -1).softmax(-1)[..., None] * v).sum(1)
    close(layer, y.transpose(0, 1).reshape(3, 12), layer(x, bias)[1, :, 3, 4], row)


def test_depth_attention_over_one_depth_is_the_limit_of_the_general_way():
    torch.manual_seed(1)
    layer, x = DepthAttention(16, 2, 6), tokens(D=1)
    q, k, v = qkv(layer, x[1, 0].reshape(20, 16))
    out = layer(x, None)
    close(layer, v.transpose(0, 1).reshape(20, 12), out[1, 0].reshape(20, 16), x[1, 0].reshape(20, 16))
    out.sum().backward()
    assert layer.qkv.weight.grad[:24].abs().max() == 0 and layer.qkv.weight.grad[24:].abs().max() > 0


def test_both_ways_of_depth_attention_have_the_same_gradients(monkeypatch):
    torch.manual_seed(1)
    layer, x, grads = DepthAttention(16, 2, 6), tokens(), []
    for few in (0, 4):
        monkeypatch.setattr(attention, "FEW_DEPTHS", few)
        a, bias = x.clone().requires_grad_(), torch.ones(2, 3, 3, requires_grad=True)
        layer(a, bias).square().sum().backward()
        grads.append((a.grad, bias.grad))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-5)


def test_rotation_keeps_lengths_and_leaves_depth_zero_alone():
    x = torch.randn(2, 5, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    y = rotate(x)
    torch.testing.assert_close(y[:, 0], x[:, 0])
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1))
    assert rotary_table(5, 8, CPU)[2, 1].angle().item() == pytest.approx(2 * 10_000 ** (-2 / 8), rel=1e-6)


def test_a_table_made_while_sampling_serves_training():
    rotary_table.cache_clear(), relative_buckets.cache_clear()
    layer, bias, x = DepthAttention(8, 2, 4), RelativeBias(2), tokens(C=8)
    with torch.inference_mode():
        layer(x, bias(3))
    layer(x, bias(3)).sum().backward()
    assert bias.table.weight.grad.abs().sum() > 0


def test_buckets_are_exact_nearby_and_tell_the_directions_apart():
    bucket = relative_buckets(40, CPU)
    assert bucket[5, 5] == 0 and bucket[5, 4] == 1 and bucket[5, 6] == 17
    assert bucket[20, :].unique().numel() > 16 and bucket.max() == 31 and bucket.min() == 0
    assert bucket[0, 33] == bucket[0, 39] == 31  # beyond MAX_DISTANCE all the same


def test_depth_attention_for_a_gpu_is_the_same_and_a_compiler_can_follow_it():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 5, 3, 2, 8).unbind(-3)  # views of one tensor, as they come
    bias, table = torch.randn(2, 3, 3), attention.rotary_table(3, 8, torch.device("cpu"))[:, None, None]
    ours = torch.compile(attention._few_rotated_depths, fullgraph=True, backend="aot_eager")
    got = ours(q, k, v, bias, table.real.contiguous(), table.imag.contiguous())
    want = attention.few_depths_attention(attention.rotate(q), attention.rotate(k), v, bias)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
