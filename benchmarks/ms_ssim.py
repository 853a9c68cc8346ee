"""MS-SSIM of one pair in 3-D: the plain arithmetic (separable scipy filters, five maps) and ours, in turn.

    OMP_NUM_THREADS=2 python benchmarks/ms_ssim.py            # Markdown rows
    OMP_NUM_THREADS=2 python benchmarks/ms_ssim.py --json

Both sides compute the same figure to 1e-4 (checked first). torchmetrics and MONAI refuse these axes at five scales.
"""

from __future__ import annotations

import numpy as np
import torch
from harness import compare
from scipy.ndimage import correlate1d

from gen_metrics.similarity import K1, K2, WEIGHTS, ms_ssim, scale_count

RANGE = 2.0


def valid_blur(a: np.ndarray, window: int = 11, sigma: float = 1.5) -> np.ndarray:
    """Gaussian blur axis by axis, only where the window (cut to the axis) fits."""
    for axis, n in enumerate(a.shape):
        w = min(window, n)
        at = np.arange(w) - (w - 1) / 2
        taps = np.exp(-0.5 * (at / sigma) ** 2)
        full = correlate1d(a, (taps / taps.sum()).astype(a.dtype), axis=axis, mode="constant", origin=-(w // 2))
        # origin -w//2 puts the window's first tap on the output voxel: the valid part starts at 0
        a = full.take(range(n - w + 1), axis=axis)
    return a


def plain(x: np.ndarray, y: np.ndarray) -> float:
    """MS-SSIM of (D, H, W) arrays as the papers write it: five blurred maps a scale."""
    count = scale_count(*x.shape[1:])
    weights = np.asarray(WEIGHTS[:count]) / sum(WEIGHTS[:count])
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    value = 1.0
    for i, weight in enumerate(weights):
        mx, my, xx, yy, xy = (valid_blur(m) for m in (x, y, x * x, y * y, x * y))
        cs = (2 * (xy - mx * my) + c2) / ((xx - mx**2) + (yy - my**2) + c2)
        full = cs * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        value *= max(float((full if i == count - 1 else cs).mean()), 0.0) ** weight
        x, y = (halve(v) for v in (x, y))
    return value


def halve(a: np.ndarray) -> np.ndarray:
    for axis, n in enumerate(a.shape):
        if n > 1:
            even = a.take(range(0, n - n % 2, 2), axis=axis)
            a = (even + a.take(range(1, n, 2), axis=axis)) / 2
    return a


def main() -> None:
    for shape in ((16, 224, 224), (128, 128, 128), (16, 64, 64)):
        g = torch.Generator().manual_seed(0)
        x = torch.rand(shape, generator=g) * 2
        y = (x + 0.2 * torch.randn(shape, generator=g)).clamp(0, 2)
        a, b = x.numpy(), y.numpy()
        theirs, ours = plain(a, b), float(ms_ssim(x, y))
        if abs(theirs - ours) > 1e-4:
            raise SystemExit(f"{shape}: the sides disagree, {theirs:.6f} and {ours:.6f}")
        name = f"MS-SSIM pair, {' x '.join(map(str, shape))}"
        compare(name, {"scipy arithmetic": lambda a=a, b=b: plain(a, b), "ours": lambda x=x, y=y: ms_ssim(x, y)})


if __name__ == "__main__":
    main()
