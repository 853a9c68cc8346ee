"""What the convolutional codecs share to send large volumes through their networks in tiles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gen_codecs.blocks import pad_up
from gen_codecs.tiled_graph import graph_of
from gen_core.codec import Codec
from gen_core.tiling.graph import Graph, Size


class TiledCodec(Codec):
    """A codec with an `encoder` and a `decoder`, of which `tiled_graph` knows how they are built.

    grid_stride: (D, H, W) of the encoder's last maps.
    """

    encoder: nn.Module
    decoder: nn.Module
    grid_stride: Sequence[int]

    def graphs(self) -> dict[str, Graph]:
        """Of one volume: see Codec."""
        grid: Size = tuple(-(-n // s) for n, s in zip(self.spec.size, self.grid_stride))  # type: ignore[assignment]
        padded: Size = tuple(n * s for n, s in zip(grid, self.grid_stride))  # type: ignore[assignment]
        maps = graph_of(self.encoder, len(self.spec.channels), padded)
        return {"encode": maps, "decode": graph_of(self.decoder, self._decoder_channels(), grid)}

    def _decoder_channels(self) -> int:
        return next(m for m in self.decoder.modules() if isinstance(m, nn.Conv3d)).in_channels

    def _maps(self, x: Tensor) -> Tensor:
        """The encoder's last maps (B, C', d, h, w) of volumes of any size."""
        network = getattr(self.encoder, "maps", self.encoder)
        if self._tiling():
            padded: Size = tuple(-(-n // s) * s for n, s in zip(x.shape[2:], self.grid_stride))  # type: ignore[assignment]
            whole = lambda t: network(pad_up(t, self.grid_stride))
            made = self.tiles.run(graph_of(self.encoder, x.shape[1], padded), whole, x, self.grid_stride)
            if made is not None:
                return made
        return network(pad_up(x, self.grid_stride))

    def _decoded(self, h: Tensor) -> Tensor:
        """The decoder's output, cut to the volume's size, float32."""
        if self._tiling():
            graph = graph_of(self.decoder, h.shape[1], tuple(h.shape[2:]))  # type: ignore[arg-type]
            wanted: Size = tuple(min(n, m) for n, m in zip(self.spec.size, graph.output.size))  # type: ignore[assignment]
            made = self.tiles.run(graph, self.decoder, h, (1, 1, 1), wanted)
            if made is not None:
                return made.float()
        depth, height, width = self.spec.size
        return self.decoder(h)[:, :, :depth, :height, :width].float()

    def _volume(self, h: Tensor) -> Tensor:
        """The same in [-1, 1]."""
        x = self._decoded(h)
        own = self._tiling() and x.is_contiguous()  # no second copy of a large volume
        return x.clamp_(-1, 1) if own else x.clamp(-1, 1)

    def _tiling(self) -> bool:
        """Training and gradients take the plain way: tiles are for coding with fitted weights."""
        return self.tiles is not None and not self.training and not torch.is_grad_enabled()
