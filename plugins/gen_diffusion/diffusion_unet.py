"""The prior `diffusion-unet`: the U-Net of latent diffusion as a discrete-time DDPM.

Source: Rombach et al. 2022; Pinaya et al. 2022 (in 3-D); the algebra is `gen_core.ddpm.discrete_ddpm`.
"""

from __future__ import annotations

from torch import Tensor, nn

from gen_core.condition import VECTORS, Conditions
from gen_core.ddpm.discrete_ddpm import DiscreteDdpm
from gen_core.prior import PriorContext
from gen_diffusion.condition_embedding import ConditionEmbedding, grid_channels
from gen_diffusion.diffusion_unet_network import DiffusionUnetNetwork
from gen_diffusion.diffusion_unet_options import DiffusionUnet


class DiffusionUnetPrior(DiscreteDdpm):
    """The U-Net, and the embedding of conditions where there are some."""

    def __init__(self, options: DiffusionUnet, context: PriorContext):
        super().__init__(options, context)
        o, specs = options, self.specs
        tokens = o.embed == "cross-attention" and any(spec.kind in VECTORS for spec in specs.values())
        context_dim = o.context_dim if tokens else 0
        self.network = DiffusionUnetNetwork(self.shape, o, grid_channels(specs), context_dim)
        self.embedding = ConditionEmbedding(specs, context_dim or 4 * o.channels[0], tokens) if specs else None

    def checkpoint_activations(self, on: bool) -> None:
        self.network.checkpointing = on

    def shardable(self) -> list[nn.Module]:
        network = self.network
        units = [unit for level in (*network.down, *network.up) for unit in level]
        return [*units, network.middle, network.middle_block, network]

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditions | None) -> Tensor:
        """What the network was trained for, float32. Latent diffusion counts steps from 0, step k has index k - 1."""
        index = self.path.position(t).float() - 1.0
        if self.embedding is None:
            return self.network(z_t, index).float()
        return self.network(z_t, index, self.embedding(cond)).float()


def build(options: DiffusionUnet, context: PriorContext) -> DiffusionUnetPrior:
    """The prior of `options` for latents of `context.shape`; works on the meta device.

    Raises: RecipeError for a schedule that cannot be.
    """
    return DiffusionUnetPrior(options, context)
