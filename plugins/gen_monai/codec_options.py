"""Settings of MONAI's autoencoders as codecs; attrs only, so that a recipe is checked without torch or MONAI."""

from __future__ import annotations

from typing import Literal

from attrs import Factory, field, frozen, validators

from gen_core.options import FitOptions, positive

_at_least_0 = validators.ge(0.0)


def _fit() -> FitOptions:
    return FitOptions(steps=100_000, batch=2, optimizer="adam", lr=1e-4)


@frozen
class _Autoencoder:
    """What the three share: sizes, how volumes are handed over, and where weights come from."""

    width: int = positive(64, metadata={"smoke": 8})
    # width x multiplier = channels of a level, finest first
    multipliers: tuple[int, ...] = field(
        default=(1, 1, 1), validator=[validators.min_len(1), validators.deep_iterable(validators.gt(0))]
    )
    blocks: int = positive(2, metadata={"smoke": 1})  # residual blocks a level
    latent_channels: int = positive(3)
    flat: bool = False  # a 2-D network, for images (D = 1)
    # what the network was made for: values in [-1, 1], or in [0, 1]
    intensities: Literal["signed", "unit"] = "signed"
    # axes the network sees: ours (z, y, x), or (x, y, z) with x to the right and y to the front, as MONAI's loaders
    # give them; the second is right for volumes stored as usual: z up, y to the back, x to the left
    orientation: Literal["zyx", "ras"] = "zyx"
    weights: str = field(default="", metadata={"smoke": ""})  # safetensors, .pt or .pth file to start from
    weights_sha256: str = field(default="", metadata={"smoke": ""})  # what that file must hash to
    weights_entry: str = field(default="", metadata={"smoke": ""})  # which of a checkpoint's state dicts
    l1: float = field(default=1.0, validator=_at_least_0)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.width * m for m in self.multipliers)

    @property
    def kl_stride(self) -> int:
        """Of every axis: the KL autoencoders change resolution between levels."""
        return 2 ** (len(self.multipliers) - 1)


def _check_kl(options: _Autoencoder, norm_groups: int) -> None:
    if len(options.multipliers) < 2:
        raise ValueError("multipliers: one level compresses nothing; give two or more")
    wrong = [c for c in options.channels if c % norm_groups]
    if wrong:
        raise ValueError(f"norm_groups = {norm_groups} does not divide {wrong[0]} channels (width x multipliers)")


@frozen
class MonaiAutoencoderKl(_Autoencoder):
    """[codec] use = "monai-autoencoder-kl"; the defaults are the published lung-CT codec."""

    kl: float = field(default=1e-6, validator=_at_least_0)  # sum over the latent's values, mean over the batch
    # levels with attention after each residual block: 0 is the finest, -1 the coarsest; () = none
    attention: tuple[int, ...] = field(default=(-1,), metadata={"smoke": ()})
    middle_encoder: bool = field(default=True, metadata={"smoke": False})  # MONAI's non-local attention
    middle_decoder: bool = field(default=True, metadata={"smoke": False})
    include_fc: bool = True  # an output projection in attention
    combined_linear: bool = False  # one linear layer for query, key and value
    transposed: bool = False  # up-sampling by transposed convolutions
    # the same numbers up to rounding; without it 32^3 voxels need 4 GiB for each volume and attention
    flash_attention: bool = True
    norm_groups: int = positive(32, metadata={"smoke": 4})
    fit: FitOptions = Factory(_fit)

    def __attrs_post_init__(self) -> None:
        _check_kl(self, self.norm_groups)
        n = len(self.multipliers)
        if any(not -n <= level < n for level in self.attention):
            raise ValueError(f"attention {list(self.attention)}: there are {n} levels, 0 .. {n - 1} or -{n} .. -1")

    @property
    def attention_levels(self) -> tuple[bool, ...]:
        """Whether each level has attention, finest first."""
        n = len(self.multipliers)
        return tuple(i in self.attention or i - n in self.attention for i in range(n))


@frozen
class MaisiAutoencoder(_Autoencoder):
    """[codec] use = "maisi-autoencoder"; the defaults are the sizes and conventions of the published weights."""

    multipliers: tuple[int, ...] = field(
        default=(1, 2, 4), validator=[validators.min_len(1), validators.deep_iterable(validators.gt(0))]
    )
    latent_channels: int = positive(4)
    intensities: Literal["signed", "unit"] = "unit"
    orientation: Literal["zyx", "ras"] = "ras"
    kl: float = field(default=1e-6, validator=_at_least_0)
    norm_groups: int = positive(32, metadata={"smoke": 4})
    splits: int = positive(1)  # convolutions run in so many slabs: less memory at a time, the same numbers
    fit: FitOptions = Factory(_fit)

    def __attrs_post_init__(self) -> None:
        _check_kl(self, self.norm_groups)
        if self.flat:
            raise ValueError("flat: MAISI's networks are three-dimensional")


@frozen
class MonaiVqvae(_Autoencoder):
    """[codec] use = "monai-vqvae"."""

    width: int = positive(256, metadata={"smoke": 8})
    multipliers: tuple[int, ...] = field(  # each level halves every axis
        default=(1, 1), validator=[validators.min_len(1), validators.deep_iterable(validators.gt(0))]
    )
    latent_channels: int = positive(32)
    codes: int = field(default=256, validator=validators.ge(2))
    commitment: float = field(default=0.25, validator=_at_least_0)
    decay: float = field(default=0.99, validator=[validators.ge(0.0), validators.lt(1.0)])  # of the codes' EMA
    fit: FitOptions = Factory(_fit)

    @property
    def stride(self) -> int:
        """Of every axis."""
        return 2 ** len(self.multipliers)
