"""MONAI's diffusion U-Nets as priors: the same door, the same samplers, their weights from a file.

Shape legend: z (B, c, D, H, W) latents; images (D = 1) go through MONAI's 2-D networks.
Source: Rombach et al. 2022; Pinaya et al. 2022 (scalars as context); Guo et al. 2025 (MAISI).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from gen_core.condition import GRIDS, Conditions
from gen_core.ddpm.discrete_ddpm import DiscreteDdpm
from gen_core.engine.precision import float32_island
from gen_core.errors import MissingError, RecipeError
from gen_core.foreign_weights import fill, read_state
from gen_core.prior import PriorContext
from gen_monai.prior_options import MaisiDiffusionUnet, MonaiDiffusionUnet

EPS = 1e-6  # of the group norms
HUNDREDS = 100.0  # MAISI takes spacing in hundredths of a millimetre, and regions as 0 or 100
REGIONS = 4


class MonaiPrior(DiscreteDdpm):
    """What both have in common: axes, the class label, and masks and volumes beside z_t."""

    options: MonaiDiffusionUnet | MaisiDiffusionUnet

    def __init__(self, options: MonaiDiffusionUnet | MaisiDiffusionUnet, context: PriorContext):
        super().__init__(options, context)
        self.flat = self.shape[1] == 1
        self.grids = [name for name, spec in self.specs.items() if spec.kind in GRIDS]
        self.own = self.claimed()
        left = [name for name in self.specs if name not in self.own and name not in self.grids]
        self.label = next((name for name in left if self.specs[name].kind == "class"), None)
        refused = [name for name in left if name != self.label]
        if refused:
            raise RecipeError(f"[condition.{refused[0]}]: {self.refusal(self.specs[refused[0]].kind)}")
        factor = 2 ** (len(options.channels) - 1)
        if any(n % factor for n in self.shape[2 if self.flat else 1 :]):
            raise RecipeError(
                f"[prior] channels: MONAI's U-Net halves latents {len(options.channels) - 1} times, their size "
                f"{self.shape[1:]} must be divisible by {factor}; diffusion-unet takes any size"
            )
        extra = sum(self.specs[name].channels + 1 for name in self.grids)
        try:
            self.network = self.make(self.shape[0], extra)
        except ImportError:
            raise MissingError("[prior] the networks of MONAI need it: pip install 'gen-imaging[monai]'") from None
        for module in self.network.modules():
            if hasattr(module, "use_flash_attention"):  # MAISI's constructor refuses it where it sees no GPU
                module.use_flash_attention = options.flash_attention
        with torch.no_grad():  # what is told starts without effect
            if extra:
                self.network.conv_in.conv.weight[:, self.shape[0] :].zero_()
            if self.label:
                self.network.class_embedding.weight.zero_()

    @abstractmethod
    def claimed(self) -> tuple[str, ...]:
        """Conditions that have an input of their own. Raises: RecipeError where they are not declared so."""

    @abstractmethod
    def refusal(self, kind: str) -> str:
        """Why another condition of this kind is refused."""

    @abstractmethod
    def make(self, channels: int, extra: int) -> nn.Module:
        """The network, with so many channels out and `extra` more in."""

    @abstractmethod
    def own_inputs(self, cond: Conditions) -> dict[str, Tensor]:
        """Arguments of the network for the conditions `own`."""

    def common(self, channels: int, extra: int) -> dict[str, Any]:
        """Arguments that both constructors take. Every choice that differs by version of MONAI is passed."""
        o = self.options
        return dict(
            spatial_dims=2 if self.flat else 3,
            in_channels=channels + extra,
            out_channels=channels,
            num_res_blocks=o.blocks,
            attention_levels=o.attention,
            norm_num_groups=o.norm_groups,
            norm_eps=EPS,
            resblock_updown=o.resblock_updown,
            num_head_channels=o.head_channels,
            num_class_embeds=len(self.specs[self.label].classes) + 1 if self.label else None,
            include_fc=o.include_fc,
            use_combined_linear=o.combined_linear,
        )

    def _theirs(self, t: Tensor) -> Tensor:
        """(B, C, D, H, W) with the axes that the network wants."""
        t = t[:, :, 0] if self.flat else t
        return t.transpose(2, -1).flip(2, 3).contiguous() if self.options.orientation == "ras" else t

    def _ours(self, t: Tensor) -> Tensor:
        """The inverse of `_theirs`."""
        t = t.flip(2, 3).transpose(2, -1) if self.options.orientation == "ras" else t
        return t[:, :, None] if self.flat else t

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditions | None) -> Tensor:
        """What the network was trained for, float32. MONAI counts steps from 0, step k has index k - 1."""
        x, inputs = z_t, {}
        if cond is not None:
            inputs = self.own_inputs(cond)
            if self.label:
                unknown = len(self.specs[self.label].classes)  # the last row
                inputs["class_labels"] = torch.where(cond.present[self.label], cond.values[self.label].long(), unknown)
            for name in self.grids:
                there = cond.present[name].view(-1, 1, 1, 1, 1)
                flag = there.to(x.dtype).expand(-1, 1, *x.shape[2:])
                x = torch.cat((x, torch.where(there, cond.values[name].to(x.dtype), 0.0), flag), 1)
        index = self.path.position(t).float() - 1.0
        # torch's bf16 convolutions on CPUs have wrong gradients for thin volumes and wide layers: float32 there
        with float32_island("cpu") if x.device.type == "cpu" else nullcontext():
            return self._ours(self.network(self._theirs(x), index, **inputs)).float()

    def notes(self) -> list[str]:
        found = []
        if self.options.weights and not self.options.weights_sha256:
            found.append("weights_sha256 is not set: the weights file is taken without checking what it is")
        return found


class MonaiUnetPrior(MonaiPrior):
    """DiffusionModelUNet. Scalars are one token of context: their values and whether they are known."""

    def claimed(self) -> tuple[str, ...]:
        return tuple(name for name, spec in self.specs.items() if spec.kind == "scalar")

    def refusal(self, kind: str) -> str:
        return f"MONAI's U-Net takes one class, and '{self.label}' is there already"

    def make(self, channels: int, extra: int) -> nn.Module:
        from monai.networks.nets import DiffusionModelUNet

        return DiffusionModelUNet(
            channels=self.options.channels,
            with_conditioning=bool(self.own),
            cross_attention_dim=2 * len(self.own) or None,
            transformer_num_layers=self.options.transformer_layers,
            **self.common(channels, extra),
        )

    def own_inputs(self, cond: Conditions) -> dict[str, Tensor]:
        if not self.own:
            return {}
        present = torch.stack([cond.present[name] for name in self.own], 1)
        values = torch.stack([cond.values[name].float() for name in self.own], 1)
        return {"context": torch.cat((torch.where(present, values, 0.0), present.float()), 1)[:, None]}


class MaisiUnetPrior(MonaiPrior):
    """DiffusionModelUNetMaisi. Spacing and body regions that are not known are zeros, which none ever is."""

    options: MaisiDiffusionUnet

    def claimed(self) -> tuple[str, ...]:
        wanted = {name: "scalar" for name in self.options.spacing} | {name: "class" for name in self.options.regions}
        for name, kind in wanted.items():
            spec = self.specs.get(name)
            if spec is None or spec.kind != kind or (kind == "class" and len(spec.classes) != REGIONS):
                need = f"a class of {REGIONS}" if kind == "class" else "a scalar"
                raise RecipeError(f"[prior] spacing, regions: '{name}' must be {need} in [condition]")
        return tuple(wanted)

    def refusal(self, kind: str) -> str:
        if kind == "class":
            return f"MAISI's U-Net takes one class beside its regions, and '{self.label}' is there already"
        return "MAISI's U-Net takes no scalar but the three of `spacing`"

    def make(self, channels: int, extra: int) -> nn.Module:
        from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi

        if self.flat:
            raise RecipeError("[prior] MAISI's networks are three-dimensional, these latents have D = 1")
        return DiffusionModelUNetMaisi(
            num_channels=self.options.channels,
            include_top_region_index_input=bool(self.options.regions),
            include_bottom_region_index_input=bool(self.options.regions),
            include_spacing_input=bool(self.options.spacing),
            **self.common(channels, extra),
        )

    def own_inputs(self, cond: Conditions) -> dict[str, Tensor]:
        inputs = {}
        if self.options.spacing:
            columns = []
            for name in self.options.spacing:
                spec = self.specs[name]
                mm = spec.low + 0.5 * (cond.values[name].float() + 1.0) * (spec.high - spec.low)
                columns.append(torch.where(cond.present[name], HUNDREDS * mm, 0.0))
            if self.options.orientation == "ras":
                columns.reverse()
            inputs["spacing_tensor"] = torch.stack(columns, 1)
        for which, name in zip(("top", "bottom"), self.options.regions):
            there = cond.present[name]
            index = torch.where(there, cond.values[name].long(), 0)
            hot = torch.nn.functional.one_hot(index, REGIONS).float()
            inputs[f"{which}_region_index_tensor"] = HUNDREDS * hot * there[:, None]
        return inputs


def modern_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A U-Net's state dict under today's names, if it has those of the former package MONAI Generative."""
    rules = (
        (r"(attentions\.\d+|middle_block\.attention)\.(to_[qkv])\.", r"\1.attn.\2."),
        (r"(attentions\.\d+|middle_block\.attention)\.proj_attn\.", r"\1.attn.out_proj."),
        (r"(attn[12])\.to_out\.0\.", r"\1.out_proj."),
        (r"upsampler\.conv\.conv\.", "upsampler.postconv.conv."),
    )
    found = {}
    for name, tensor in state.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[name] = tensor
    return found


def widened(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """`state` with the inputs for conditions that it lacks: zeros, so that the network starts as it was."""
    own, found = network.state_dict(), dict(state)
    first = "conv_in.conv.weight"
    wide, narrow = torch.zeros_like(own[first]), found.get(first)
    if narrow is not None and narrow.ndim == wide.ndim and narrow.shape[1] < wide.shape[1]:
        if narrow.shape[0] == wide.shape[0] and narrow.shape[2:] == wide.shape[2:]:
            wide[:, : narrow.shape[1]] = narrow
            found[first] = wide
    if "class_embedding.weight" in own and "class_embedding.weight" not in found:
        found["class_embedding.weight"] = torch.zeros_like(own["class_embedding.weight"])
    return found


def build(options: MonaiDiffusionUnet | MaisiDiffusionUnet, context: PriorContext) -> MonaiPrior:
    """The prior of these options, with the weights of their file if they name one.

    Raises: MissingError without MONAI or the file; DataError when the file does not fit; RecipeError for conditions
    that MONAI has no input for, and latents that it cannot halve.
    """
    maisi = isinstance(options, MaisiDiffusionUnet)
    prior = MaisiUnetPrior(options, context) if maisi else MonaiUnetPrior(options, context)
    if options.weights:
        key = "[prior] weights"
        state = modern_names(read_state(options.weights, options.weights_sha256, key, options.weights_entry))
        fill(prior.network, widened(state, prior.network), key)
    return prior
