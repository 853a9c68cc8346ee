"""The convolutional networks of this plugin as graphs that can be worked through in tiles.

Each module that a codec's encoder or decoder is built of says here what it does to a graph; an unknown one is refused.
The modules' own weights are used, so a graph is as fitted as its network.
"""

from __future__ import annotations

import copy
from functools import singledispatch
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_codecs.attention import VoxelAttention
from gen_codecs.blocks import (
    BatchNorm,
    Conv3d,
    GroupNorm,
    PadDownConv3d,
    RepeatUpConv3d,
    ResidualBlock,
    UpConv3d,
    depth_to_space,
    repeat_voxels,
    space_to_depth,
)
from gen_codecs.encoder_decoder import Decoder, Down, Encoder, Up
from gen_codecs.kl_network import KlDecoder, KlEncoder
from gen_core.tiling.graph import Graph, Size
from gen_core.tiling.windows import Gather, Repeat, Slide, Spread, Window


def graph_of(network: nn.Module, channels: int, size: Size) -> Graph:
    """The graph of an encoder (up to its last maps) or decoder for one input (1, channels, *size)."""
    graph = Graph(channels, size)
    append(network, graph, 0)
    return graph


@singledispatch
def append(module: nn.Module, graph: Graph, x: int) -> int:
    """Add what `module` does to node x; returns the number of its output."""
    raise TypeError(f"{type(module).__name__} has no place in a tiled network")


@append.register
def _(module: nn.Identity, graph: Graph, x: int) -> int:
    return x


@append.register
def _(module: nn.Sequential, graph: Graph, x: int) -> int:
    for part in module:
        x = append(part, graph, x)
    return x


def _windows(make: Any, *per_axis: Any) -> tuple[Window, Window, Window]:
    return tuple(make(*values) for values in zip(*per_axis))  # type: ignore[return-value]


@append.register
def _(module: Conv3d, graph: Graph, x: int) -> int:
    return _convolution(module, graph, x, (0, 0, 0))


@append.register
def _(module: PadDownConv3d, graph: Graph, x: int) -> int:
    return _convolution(module, graph, x, module.behind)


def _convolution(module: Conv3d, graph: Graph, x: int, behind: tuple[int, ...]) -> int:
    """behind: further zeros at the end of each axis."""
    # the same layer without padding: its rules for half precision hold for tiles, too
    bare = copy.copy(module)
    bare.__class__ = Conv3d
    bare.padding, bare.pads, bare.replicate = (0, 0, 0), (0, 0, 0), False
    kernel, stride, pads = module.kernel_size, module.stride, module.pads
    size = tuple(
        (n + 2 * p + b - k) // s + 1 for n, p, b, k, s in zip(graph.nodes[x].size, pads, behind, kernel, stride)
    )
    edge = "replicate" if module.replicate else "zeros"
    windows = _windows(Slide, kernel, stride, pads)
    return graph.local(x, bare, windows, module.out_channels, size, edge)  # type: ignore[arg-type]


@append.register
def _(module: UpConv3d, graph: Graph, x: int) -> int:
    kernel, stride = module.kernel_size, module.stride
    pads = [(k - s) // 2 for k, s in zip(kernel, stride)]
    size = tuple(n * s for n, s in zip(graph.nodes[x].size, stride))

    def make(t: Tensor) -> Tensor:
        with torch.autocast(t.device.type, enabled=t.device.type != "cpu"):
            t = t.float() if t.device.type == "cpu" else t
            return F.conv_transpose3d(t, module.weight, module.bias, module.stride)

    windows = _windows(Spread, kernel, stride, pads)
    edge = "replicate" if module.replicate else "none"  # where there is nothing, nothing is added
    return graph.local(x, make, windows, module.out_channels, size, edge)  # type: ignore[arg-type]


@append.register
def _(module: RepeatUpConv3d, graph: Graph, x: int) -> int:
    stride, node = module.stride, graph.nodes[x]
    scale = [float(s) for s in stride]
    linear = lambda t: F.interpolate(t, scale_factor=scale, mode="trilinear", align_corners=False)
    repeat = lambda t: repeat_voxels(t, stride)
    windows = _windows(Repeat, stride, [int(module.linear)] * 3)
    size = tuple(n * s for n, s in zip(node.size, stride))
    x = graph.local(x, linear if module.linear else repeat, windows, node.channels, size)  # type: ignore[arg-type]
    return append(module.conv, graph, x)


@append.register
def _(module: GroupNorm, graph: Graph, x: int) -> int:
    return graph.norm(x, module.num_groups, module.eps, module.weight, module.bias)


@append.register
def _(module: BatchNorm, graph: Graph, x: int) -> int:
    """With its running statistics: a fitted codec normalizes voxel by voxel."""

    def make(t: Tensor, inplace: bool) -> Tensor:
        return F.batch_norm(
            t, module.running_mean, module.running_var, module.weight, module.bias, False, 0.0, module.eps
        )

    return graph.point(make, x)


@append.register
def _(module: VoxelAttention, graph: Graph, x: int) -> int:
    return graph.whole(x, module)


def _silu(graph: Graph, x: int) -> int:
    return graph.point(lambda t, inplace: F.silu(t, inplace), x)


def _sum(graph: Graph, a: int, b: int) -> int:
    return graph.point(lambda s, t, inplace: s.add_(t) if inplace and s.dtype == t.dtype else s + t, a, b)


@append.register
def _(module: ResidualBlock, graph: Graph, x: int) -> int:
    h = append(module.conv1, graph, _silu(graph, append(module.norm1, graph, x)))
    h = append(module.conv2, graph, _silu(graph, append(module.norm2, graph, h)))
    return _sum(graph, h, append(module.shortcut, graph, x))


@append.register
def _(module: Down, graph: Graph, x: int) -> int:
    if module.shuffle:
        node, stride = graph.nodes[x], module.stride
        size = tuple(n // s for n, s in zip(node.size, stride))
        make = lambda t: space_to_depth(t.contiguous(), stride)
        x = graph.local(x, make, _windows(Gather, stride), node.channels * prod(stride), size)  # type: ignore[arg-type]
    return append(module.blocks, graph, append(module.resample, graph, x))


@append.register
def _(module: Up, graph: Graph, x: int) -> int:
    if not module.shuffle:
        return append(module.blocks, graph, append(module.resample, graph, x))
    x = append(module.resample, graph, append(module.blocks, graph, x))
    node, stride = graph.nodes[x], module.stride
    size = tuple(n * s for n, s in zip(node.size, stride))
    make = lambda t: depth_to_space(t, stride)
    return graph.local(x, make, _windows(Repeat, stride), node.channels // prod(stride), size)  # type: ignore[arg-type]


@append.register
def _(module: Encoder, graph: Graph, x: int) -> int:
    x = append(module.stem, graph, x)
    for level in module.levels:
        x = append(level, graph, x)
    return _silu(graph, append(module.norm, graph, x))


@append.register
def _(module: Decoder, graph: Graph, x: int) -> int:
    x = append(module.stem, graph, x)
    if module.shuffle:
        x = _silu(graph, append(module.norm, graph, x))
    for level in module.levels:
        x = append(level, graph, x)
    return x if module.shuffle else append(module.head, graph, _silu(graph, append(module.norm, graph, x)))


@append.register
def _(module: KlEncoder, graph: Graph, x: int) -> int:
    """Up to the maps: mean and log-variance are small."""
    x = append(module.stem, graph, x)
    for level in module.levels:
        x = append(level, graph, x)
    return append(module.norm, graph, x)


@append.register
def _(module: KlDecoder, graph: Graph, x: int) -> int:
    x = append(module.stem, graph, append(module.from_latent, graph, x))
    for level in module.levels:
        x = append(level, graph, x)
    return append(module.head, graph, append(module.norm, graph, x))
