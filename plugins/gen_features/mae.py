"""A masked autoencoder: a transformer sees a quarter of a volume's patches and completes the rest.

What it must know to do so, the shape of vessels and spectra, makes its tokens useful features.

Source: He et al. 2022, "Masked autoencoders are scalable vision learners": 75 % masked, encoder on visible patches
alone, light decoder, squared error on hidden patches, each normalized by its own mean and variance. Dosovitskiy et
al. 2021 (vision transformer, pre-norm). Departures: no class token; small sizes.
Shape legend: B volumes, N patches of an image, V of them visible, E features a token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from gen_core.batch import Batch
from gen_core.errors import RecipeError
from gen_core.features import FeatureNetwork, FeaturesContext
from gen_core.trainable import GroupLoss, Step
from gen_features.codec_features import weights_sha256
from gen_features.mae_options import MaeVit as Options
from gen_features.views import random_view

FLAT = 1e-6  # added to a patch's variance: patches outside of the field are constant


class Block(nn.Module):
    """Tokens (B, N, E) -> the same shape: attention, then a layer of 4 E, each beside a shortcut."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.project(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.outer(gelu(self.inner(self.norm2(x))))


class MaskedAutoencoder(FeatureNetwork):
    """Volumes (B, C, D, H, W) -> (B, width): the mean of the encoder's tokens of the whole volume.

    Raises: RecipeError when patches do not tile the image.
    """

    takes = "volume"
    fitted = True

    def __init__(self, options: Options, context: FeaturesContext):
        super().__init__()
        channels, bands, h, w = context.spec.shape
        p = options.patch
        if h % p or w % p:
            raise RecipeError(f"[features] mae-vit: patch = {p} does not divide the image of {h} x {w} pixels")
        self.options, self.dim = options, options.width
        self.rows, self.columns = h // p, w // p
        n, content = self.rows * self.columns, channels * bands * p * p
        self.visible = max(1, round(n * (1 - options.mask)))
        if self.visible == n:
            raise RecipeError(
                f"[features] mae-vit: mask = {options.mask} hides none of {n} patches; use a smaller patch"
            )
        blocks = lambda width, depth: nn.Sequential(*(Block(width, options.heads) for _ in range(depth)))
        self.embed_patches = nn.Linear(content, options.width)
        self.encoder, self.encoder_norm = blocks(options.width, options.depth), nn.LayerNorm(options.width)
        self.to_decoder = nn.Linear(options.width, options.decoder_width)
        self.hidden_token = nn.Parameter(0.02 * torch.randn(options.decoder_width))
        self.decoder = blocks(options.decoder_width, options.decoder_depth)
        self.decoder_norm = nn.LayerNorm(options.decoder_width)
        self.predict = nn.Linear(options.decoder_width, content)
        for name, width in (("places", options.width), ("decoder_places", options.decoder_width)):
            self.register_buffer(name, places(self.rows, self.columns, width), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def patches(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) -> (B, N, C D p p), patches row by row."""
        p = self.options.patch
        tiles = x.flatten(1, 2).unflatten(3, (self.columns, p)).unflatten(2, (self.rows, p))
        return tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    # Features

    def embed(self, x: Tensor) -> Tensor:
        """`features` that gradients flow through: for probes that fine-tune it."""
        tokens = self.embed_patches(self.patches(x.float())) + self.places
        return self.encoder_norm(self.encoder(tokens)).float().mean(1)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """x (B, C, D, H, W) in [-1, 1] -> (B, width) float32; no layer knows training from evaluation."""
        return self.embed(x)

    def protocol(self) -> dict[str, Any]:
        o = self.options
        return {
            "name": "mae-vit",
            "sha256": weights_sha256(self),
            "patch": o.patch,
            "width": o.width,
            "depth": o.depth,
            "norm": "layer",
            "train_on": o.train_on,
            "planes": o.planes,
            "input": "whole volumes in [-1, 1], bands as channels, native size",
            "statistics": "mean over the encoder's tokens, nothing masked",
        }

    # Learning

    def training_step(self, batch: Batch, step: Step) -> Iterator[GroupLoss]:
        with torch.no_grad():
            x = random_view(batch.x, self.options.views, step.generator)
        yield GroupLoss("main", {"masked": self.masked_error(x, step.generator)})

    @torch.no_grad()
    def validation_step(self, batch: Batch, step: Step) -> dict[str, Tensor]:
        """masked: mean squared error on hidden patches; 1 is what the mean of each patch would reach."""
        return {"masked": self.masked_error(batch.x, step.generator)}

    def masked_error(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x (B, C, D, H, W) -> scalar: hides a random share of the patches and completes them."""
        target = self.patches(x.float())
        b, n, _ = target.shape
        order = torch.rand(b, n, generator=generator, device=generator.device).argsort(1)
        seen, hidden = order[:, : self.visible, None], order[:, self.visible :, None]
        pick = lambda values, index: values.gather(1, index.expand(-1, -1, values.shape[2]))
        tokens = self.embed_patches(pick(target, seen)) + self.places[seen[..., 0]]
        tokens = self.to_decoder(self.encoder_norm(self.encoder(tokens)))
        blank = self.hidden_token.to(tokens.dtype).expand(b, n - self.visible, -1)
        both = torch.cat((tokens, blank), 1) + self.decoder_places[order]
        guess = self.predict(self.decoder_norm(self.decoder(both))[:, self.visible :]).float()
        wanted = pick(target, hidden)
        centred = wanted - wanted.mean(2, keepdim=True)
        wanted = centred / (centred.square().mean(2, keepdim=True) + FLAT).sqrt()
        return (guess - wanted).square().mean()


def places(rows: int, columns: int, width: int) -> Tensor:
    """(rows * columns, width): sines and cosines of the row in the first half, of the column in the second.

    Source: Vaswani et al. 2017, section 3.5, for each axis.
    """
    rate = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    wave = lambda n: torch.cat(
        [f(torch.arange(n, dtype=torch.float64)[:, None] * rate) for f in (torch.sin, torch.cos)], 1
    )
    row, column = wave(rows), wave(columns)
    both = (row[:, None].expand(-1, columns, -1), column[None].expand(rows, -1, -1))
    return torch.cat(both, 2).flatten(0, 1).float()


def build(options: Options, context: FeaturesContext) -> MaskedAutoencoder:
    """The network of a recipe's table."""
    return MaskedAutoencoder(options, context)
