"""Random corruptions: frequency bands made louder or softer, white noise, a hole.

Source: Karras et al. 2020, "Training generative adversarial networks with limited data", appendix B.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gen_gan.augment_geometry import Draws
from gen_gan.upfirdn import reflect_pad

BANDS = 4  # octaves below the Nyquist frequency, the lowest with all below it
POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # share of each band in a natural image, lowest first
BAND_SD = 1.0  # of log2 of the factors
NOISE_SD = 0.1  # of the noise's own deviation
HOLE = 0.5  # of each side

# Half-band filter: the wavelet with two vanishing moments against itself (Daubechies 1992, section 6.1), sum 1.
HALF_BAND = (-1 / 32, 0.0, 9 / 32, 1 / 2, 9 / 32, 0.0, -1 / 32)


def band_filters() -> Tensor:
    """(4, 43) float64: filters whose sum is the identity; each passes one octave, lowest first."""
    size = 43
    low = [torch.zeros(size, dtype=torch.float64)]
    low[0][size // 2] = 1.0
    for octave in range(BANDS - 1):
        taps = torch.zeros((len(HALF_BAND) - 1) * 2**octave + 1, dtype=torch.float64)
        taps[:: 2**octave] = torch.tensor(HALF_BAND, dtype=torch.float64)
        low.append(F.conv1d(low[-1][None, None], taps[None, None], padding=len(taps) // 2)[0, 0])
    return torch.stack([low[3], *(low[k] - low[k + 1] for k in (2, 1, 0))])


def amplify_bands(x: Tensor, draws: Draws) -> Tensor:
    """Each band times 2^N(0, 1) with probability p; the expected power stays the same."""
    power = torch.tensor(POWER, device=x.device, dtype=x.dtype)
    gains = torch.ones(draws.n, BANDS, device=x.device, dtype=x.dtype)
    for band in range(BANDS):
        one = torch.ones_like(gains)
        one[:, band] = draws.chance(torch.exp2(BAND_SD * draws.normal()), 1.0)
        gains = gains * one / (one.square() @ power).sqrt()[:, None]
    taps = gains @ band_filters().to(gains)  # (B, 43), symmetric
    b, c, h, w = x.shape
    reach = taps.shape[1] // 2
    kernel = taps.repeat_interleave(c, 0)
    y = reflect_pad(reflect_pad(x, (reach, reach), -2), (reach, reach), -1).reshape(1, b * c, h + 2 * reach, -1)
    y = F.conv2d(y, kernel[:, None, :, None], groups=b * c)
    return F.conv2d(y, kernel[:, None, None, :], groups=b * c).reshape(b, c, h, w)


def add_noise(x: Tensor, draws: Draws) -> Tensor:
    """White noise of deviation |N(0, 0.1)| in a share p of the samples."""
    sd = draws.chance(NOISE_SD * draws.normal().abs(), 0.0)
    return x + sd.view(-1, 1, 1, 1) * draws.normal(*x.shape[1:])


def cut_out(x: Tensor, draws: Draws) -> Tensor:
    """A rectangle of half the sides around a random place set to 0 in a share p of the samples."""
    h, w = x.shape[-2:]
    side, place = draws.chance(torch.full((draws.n,), HOLE).to(x), 0.0), draws.uniform(2)
    far = lambda n, at: (
        ((torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) / n - at[:, None]).abs() >= side[:, None] / 2
    )
    keep = far(h, place[:, 1])[:, :, None] | far(w, place[:, 0])[:, None, :]
    return x * keep[:, None].to(x.dtype)
