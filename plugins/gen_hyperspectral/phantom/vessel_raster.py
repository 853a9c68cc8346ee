"""Blood path and cover of vessels on a pixel grid: straight pieces of round tubes, drawn in small windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gen_hyperspectral.phantom.vessel_tree import VesselTree

_THINNEST_PX = 0.6  # thinner tubes are drawn this wide and paler, so that no piece falls between pixels
_CHUNK = 1 << 20  # window elements at once


def rasterize(
    tree: VesselTree, kind: int, size: tuple[int, int], pixel_mm: float, factor: int = 1, reflex: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(blood path in mm (H, W), inside (H, W)) of the vessels of `kind` on a grid centred at the frame's origin.

    The path of a tube of radius R at distance q from its axis is the chord 2 sqrt(R^2 - q^2); where tubes of one
    kind overlap, the longest chord counts. `inside` knows only vessels at least one picture pixel wide (`factor` grid
    pixels): a mask of thinner ones would be a row of dots. reflex: how much paler the bright stripe along the axis is.
    """
    H, W = size
    of = tree.kind == kind
    origin = np.array([W / 2, H / 2])
    a = (tree.start[of] / pixel_mm + origin).astype(np.float32)
    b = (tree.stop[of] / pixel_mm + origin).astype(np.float32)
    true = (tree.radius[of] / pixel_mm).astype(np.float32)
    R = np.maximum(true, np.float32(_THINNEST_PX))
    path = np.zeros(H * W, np.float32)
    inside = np.zeros(H * W, bool)
    half = np.ceil(R + np.abs(b - a).max(1) / 2 + 0.5).astype(int)  # half side of a piece's window
    middle = np.floor((a + b) / 2).astype(int)
    seen = ((middle > -half[:, None]) & (middle < np.array([W, H]) + half[:, None])).all(1)
    for w in np.unique(half[seen]):
        pieces = np.flatnonzero(seen & (half == w))
        k = np.arange(-w, w + 1)
        per = max(1, _CHUNK // len(k) ** 2)
        for i in range(0, len(pieces), per):
            p = pieces[i : i + per]
            X, Y = middle[p, 0, None] + k, middle[p, 1, None] + k  # (n, K)
            px, py = (
                (X + 0.5 - a[p, 0, None]).astype(np.float32),
                (Y + 0.5 - a[p, 1, None]).astype(np.float32),
            )
            d = b[p] - a[p]
            along = px[:, None, :] * d[:, 0, None, None] + py[:, :, None] * d[:, 1, None, None]
            t = np.clip(along / ((d * d).sum(1) + np.float32(1e-9))[:, None, None], 0, 1)
            q2 = (px[:, None, :] - t * d[:, 0, None, None]) ** 2 + (py[:, :, None] - t * d[:, 1, None, None]) ** 2
            r2 = (R[p] ** 2)[:, None, None]
            ok = (q2 < r2) & ((X >= 0) & (X < W))[:, None, :] & ((Y >= 0) & (Y < H))[:, :, None]
            n, row, col = np.nonzero(ok)
            at = Y[n, row] * W + X[n, col]
            hit = q2[ok]
            # Widened tubes keep their cross-section: the chord shrinks by (true / drawn)^2.
            pale = (true[p] / R[p]) ** 2
            chord = 2 * np.sqrt(R[p][n] ** 2 - hit) * pale[n] * np.float32(pixel_mm)
            if reflex:
                chord *= 1 - np.float32(reflex) * np.exp(hit / (-((0.35 * R[p][n]) ** 2)))
            np.maximum.at(path, at, chord)
            inside[at[(hit < (true[p][n]) ** 2) & (2 * true[p][n] >= factor)]] = True
    return path.reshape(H, W), inside.reshape(H, W)
