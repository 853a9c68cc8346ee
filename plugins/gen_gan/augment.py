"""Adaptive discriminator augmentation: what the discriminator sees, real or not, is changed at random.

Each change befalls a sample with probability p; as long as p stays well below 1 the generator cannot profit from
imitating it. p rises while the discriminator is too sure of the training samples: r = E[sign D(real)] above its target.
Source: Karras et al. 2020, "Training generative adversarial networks with limited data", sections 2 and 3, appendix B.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_core.share import whole
from gen_gan.augment_colour import colour_map, recolour
from gen_gan.augment_corruption import add_noise, amplify_bands, cut_out
from gen_gan.augment_geometry import Draws, blit_matrix, geometric_matrix, warp


def augment(x: Tensor, p: float, kinds: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """x (B, C, H, W) -> the same, changed; differentiable twice in x.

    kinds: among "blit", "geometric", "colour", "filter", "noise", "cutout", applied in this order. p in [0, 1].
    """
    if p <= 0 or not kinds:
        return x
    draws = Draws(x.shape[0], p, generator, x.device, x.dtype)
    size = (x.shape[-2], x.shape[-1])
    moves = {"blit": blit_matrix, "geometric": geometric_matrix}
    matrix = None
    for kind in moves:
        if kind in kinds:
            m = moves[kind](draws, size)
            matrix = m if matrix is None else matrix @ m
    if matrix is not None:
        x = warp(x, matrix)
    if "colour" in kinds:
        x = recolour(x, *colour_map(draws, x.shape[1]))
    for kind, change in (("filter", amplify_bands), ("noise", add_noise), ("cutout", cut_out)):
        if kind in kinds:
            x = change(x, draws)
    return x


class AugmentProbability(nn.Module):
    """p, and the signs seen since it was last adapted; all in buffers.

    target: of the mean sign; 0 keeps p at `start`. images: how many real samples take p from 0 to 1, or back.
    most: the largest p.
    """

    p: Tensor
    signs: Tensor
    seen: Tensor

    def __init__(self, target: float, images: int, start: float = 0.0, most: float = 0.8):
        super().__init__()
        self.target, self.images, self.most = target, images, most
        self.register_buffer("p", torch.tensor(float(start), dtype=torch.float64))
        self.register_buffer("signs", torch.zeros((), dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def observe(self, logits: Tensor) -> None:
        """Logits (B,) of real samples, as the discriminator was trained on them."""
        logits = whole(logits.detach())  # of all processes
        self.signs += logits.sign().sum()
        self.seen += logits.numel()

    @torch.no_grad()
    def adapt(self) -> None:
        """Move p by a fixed amount for each sample seen, up when the mean sign is above the target, else down."""
        if self.target > 0:
            mean = self.signs / self.seen.clamp_min(1.0)
            self.p += (mean - self.target).sign() * self.seen / self.images
            self.p.clamp_(0.0, self.most)
        self.signs.zero_()
        self.seen.zero_()
