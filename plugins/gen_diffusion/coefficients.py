"""What every sampler prepares once, so that its loop never waits for the device."""

from __future__ import annotations

from torch import Tensor

from gen_core.prior import NoisePath


def along(path: NoisePath, ts: Tensor) -> tuple[list[float], list[float]]:
    """alpha and sigma at every time of the grid, as Python floats computed in float64."""
    ts = ts.double().cpu()
    return path.alpha(ts).tolist(), path.sigma(ts).tolist()


def times(ts: Tensor, z: Tensor) -> Tensor:
    """ts as (n + 1, B) on the device of z: row i is what `denoise` gets at grid step i."""
    return ts.to(z.device)[:, None].expand(-1, z.shape[0])
