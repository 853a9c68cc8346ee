"""The prior `ddpm3d`: a discrete-time DDPM over latents with the video-style 3-D U-Net.

Source: Ho et al. 2020 (DDPM), Ho et al. 2022 (the network); the algebra is `gen_core.ddpm.discrete_ddpm`.
"""

from __future__ import annotations

from torch import Tensor, nn

from gen_core.condition import VECTORS, Conditions
from gen_core.ddpm.discrete_ddpm import DiscreteDdpm
from gen_core.errors import RecipeError
from gen_core.prior import PriorContext
from gen_diffusion.condition_embedding import ConditionEmbedding, grid_channels
from gen_diffusion.ddpm3d_options import Ddpm3d
from gen_diffusion.unet3d import Unet3d


class DdpmPrior(DiscreteDdpm):
    """The U-Net, and the embedding of conditions where there are some."""

    def __init__(self, options: Ddpm3d, context: PriorContext):
        super().__init__(options, context)
        o, specs = options, self.specs
        vectors = any(spec.kind in VECTORS for spec in specs.values())
        tokens = vectors and o.embed == "cross-attention"
        if tokens and o.attention == "none":
            raise RecipeError('[prior] embed = "cross-attention" needs attention = "levels" or "middle"')
        self.network = Unet3d(self.shape, o, grid_channels(specs), o.context_dim if tokens else 0)
        width = o.context_dim if tokens else 4 * o.base
        self.embedding = ConditionEmbedding(specs, width, tokens) if specs else None

    def checkpoint_activations(self, on: bool) -> None:
        self.network.checkpointing = on

    def shardable(self) -> list[nn.Module]:
        network = self.network
        return [*network.down, network.middle, *network.up, network]

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditions | None) -> Tensor:
        """What the network was trained for, float32."""
        k = self.path.position(t).float()
        if self.embedding is None:
            return self.network(z_t, k).float()
        return self.network(z_t, k, self.embedding(cond)).float()


def build(options: Ddpm3d, context: PriorContext) -> DdpmPrior:
    """The prior of `options` for latents of `context.shape`; works on the meta device.

    Raises: RecipeError for a schedule that cannot be, or cross-attention in a network without attention.
    """
    return DdpmPrior(options, context)
