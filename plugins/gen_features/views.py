"""Random views of spectral images: geometry, light and noise change, the shape of the spectrum stays.

A view is what a contrastive network must see through. Colour jitter and greyscale of natural-image recipes would
teach it to ignore the spectrum, so light changes all bands together, with at most a slight, smooth tilt over them.
Shapes: B images, C channels, D bands, H rows, W columns; all draws come from the generator passed in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from gen_features.view_options import ViewOptions


def random_view(x: Tensor, options: ViewOptions, generator: torch.Generator) -> Tensor:
    """A view of each volume. x: (B, C, D, H, W) in [-1, 1] -> the same shape, float32; values may leave [-1, 1]."""
    view = _geometry(x.float(), options, generator)
    view = _light(view, options, generator)
    if options.blur > 0:
        view = _blur(view, options, generator)
    if options.cutout > 0:
        view = _cutout(view, options, generator)
    if options.noise > 0:
        sd = options.noise * _uniform(len(x), generator)
        view = view + _wide(sd) * torch.randn(view.shape, generator=generator, device=view.device)
    return view


def _uniform(n: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator, device=generator.device)


def _normal(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, generator=generator, device=generator.device)


def _coin(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device) < 0.5


def _wide(values: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1, 1)."""
    return values[:, None, None, None, None]


def _geometry(x: Tensor, options: ViewOptions, generator: torch.Generator) -> Tensor:
    """Crop, resize to the old size, rotate and flip in one interpolation; beyond the border the image is mirrored."""
    n, (h, w) = len(x), x.shape[-2:]
    area = _uniform(n, generator, options.crop, 1.0).sqrt()
    aspect = (_uniform(n, generator, -1.0, 1.0) * math.log(options.aspect) / 2).exp()
    across, down = (area * aspect).clamp(max=1.0), (area / aspect).clamp(max=1.0)
    angle = _uniform(n, generator, -1.0, 1.0) * math.radians(options.rotate)
    # the middle of the crop, where it leaves the image nowhere
    right = (1 - across) * _uniform(n, generator, -1.0, 1.0)
    low = (1 - down) * _uniform(n, generator, -1.0, 1.0)
    mirror = lambda on: torch.where(_coin(n, generator), -1.0, 1.0) if on else torch.ones(n, device=generator.device)
    across, down = across * mirror(options.flip_columns), down * mirror(options.flip_rows)
    cos, sin = angle.cos(), angle.sin()
    # grid coordinates run from -1 to 1 over each axis: a rotation must know how long the axes are
    theta = torch.stack(
        [
            torch.stack([across * cos, -down * sin * h / w, right], 1),
            torch.stack([across * sin * w / h, down * cos, low], 1),
        ],
        1,
    )
    grid = affine_grid(theta, [n, 1, h, w], align_corners=False)
    flat = grid_sample(x.flatten(1, 2), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return flat.unflatten(1, x.shape[1:3])


def _light(x: Tensor, options: ViewOptions, generator: torch.Generator) -> Tensor:
    """Contrast and brightness common to all bands, and a smooth change over the bands."""
    n, bands = len(x), x.shape[2]
    gain = (options.gain * _normal(n, generator)).exp()
    offset = options.offset * _normal(n, generator)
    straight, curved = options.tilt * _normal(n, generator), options.tilt * _normal(n, generator)
    u = torch.linspace(-1.0, 1.0, bands, device=x.device) if bands > 1 else torch.zeros(1, device=x.device)
    # Legendre polynomials: neither changes the mean brightness
    change = straight[:, None] * u + curved[:, None] * (1.5 * u.square() - 0.5) * (bands > 1)
    return x * _wide(gain) + _wide(offset) + change[:, None, :, None, None]


def _blur(x: Tensor, options: ViewOptions, generator: torch.Generator) -> Tensor:
    """A Gaussian of an own width for each image, one axis after the other; every second image stays sharp."""
    h, w = x.shape[-2:]
    sd = options.blur * h * _uniform(len(x), generator) * _coin(len(x), generator)
    return _gaussian(sd, h)[:, None, None] @ x @ _gaussian(sd, w)[:, None, None].mT


def _gaussian(sd: Tensor, n: int) -> Tensor:
    """sd (B,) in pixels -> (B, n, n): row i weighs the places around i; rows sum to 1, so borders stay bright."""
    at = torch.arange(n, device=sd.device, dtype=torch.float32)
    kernel = (-0.5 * ((at[:, None] - at) / sd.clamp(min=1e-3)[:, None, None]).square()).exp()
    return kernel / kernel.sum(2, keepdim=True)


def _cutout(x: Tensor, options: ViewOptions, generator: torch.Generator) -> Tensor:
    """Hide a block of every second image behind the mean of each band (DeVries & Taylor 2017)."""
    n, inside = len(x), []
    on = _coin(n, generator)
    for length in x.shape[-2:]:
        size = options.cutout * _uniform(n, generator) * length
        start = _uniform(n, generator) * (length - size)
        at = torch.arange(length, device=x.device) + 0.5
        inside.append((at >= start[:, None]) & (at < (start + size)[:, None]))
    hidden = inside[0][:, :, None] & inside[1][:, None, :] & on[:, None, None]
    return torch.where(hidden[:, None, None], x.mean((3, 4), keepdim=True), x)
