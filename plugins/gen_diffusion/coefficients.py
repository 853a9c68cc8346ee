"""What every sampler prepares once, so that its loop never waits for the device."""

from __future__ import annotations

from math import inf, log

from torch import Tensor

from gen_core.prior import NoisePath


def along(path: NoisePath, ts: Tensor) -> tuple[list[float], list[float]]:
    """alpha and sigma at every time of the grid, as Python floats computed in float64."""
    ts = ts.double().cpu()
    return path.alpha(ts).tolist(), path.sigma(ts).tolist()


def times(ts: Tensor, z: Tensor) -> Tensor:
    """ts as (n + 1, B) on the device of z: row i is what `denoise` gets at grid step i."""
    return ts.to(z.device)[:, None].expand(-1, z.shape[0])


def half_log_snr(alpha: list[float], sigma: list[float]) -> list[float]:
    """lambda = ln(alpha / sigma) along the grid: infinite at the data, -infinite where no data is left."""
    return [inf if s == 0.0 else -inf if a == 0.0 else log(a / s) for a, s in zip(alpha, sigma)]


def transition(alpha: list[float], sigma: list[float], i: int) -> tuple[float, float]:
    """alpha_ts and sigma_ts^2 of q(z_t | z_s) = N(alpha_ts z_s, sigma_ts^2), t and s the i-th and next time.

    On variance-preserving paths sigma_ts^2 = 1 - alpha_ts^2. Source: Kingma et al. 2021, section 3.1.
    """
    alpha_ts = alpha[i] / alpha[i + 1]
    return alpha_ts, max(sigma[i] ** 2 - (alpha_ts * sigma[i + 1]) ** 2, 0.0)
