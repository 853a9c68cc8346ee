"""A distance that forgives what altering a volume does, learned from altered copies of training volumes.

Features answer to a shift or a crop in some directions more than different volumes differ in others: with a plain
distance a shifted copy looks like a stranger. The discriminant measures each direction by how far different volumes
lie apart in it compared with how far altering one volume moves it (Fisher 1936; Rao 1948): with within-covariance W
of the differences altered - original and total covariance T of the training volumes,

    W v = T v / e,   scaled so that v' W v = 1,   weighted by e / (e + RATIO).

Directions that altering moves more than volumes differ (e small) hardly count. Any fixed map is fair: held-out
volumes and samples pass through the same one, and it has seen neither.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

RATIO = 3.0  # half weight where volumes differ by this many times the variance that altering makes
SHRINK = 1e-3  # of W's mean variance, added to every direction: altering was tried a few hundred times only
DIRECTIONS = 128  # principal components of the training features that are kept at most
ROWS_A_DIRECTION = 4  # training volumes for each kept component at least


@frozen(eq=False)
class Discriminant:
    """Rows (n, d) -> (rows - mean) @ matrix (n, k); L2 distances of the result are the learned ones."""

    mean: Tensor
    matrix: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) @ self.matrix


def learn(rows: Tensor, differences: Tensor) -> Discriminant:
    """rows (n, d) float64 of different volumes; differences (m, d) of altered copies to their originals."""
    mean = rows.mean(0)
    centred = rows - mean
    # the components of the training volumes: beyond a quarter of their number they are noise
    keep = max(1, min(rows.shape[1], len(rows) // ROWS_A_DIRECTION, DIRECTIONS))
    basis = torch.linalg.svd(centred, full_matrices=False).Vh[:keep].T
    total = (centred @ basis).T @ (centred @ basis) / max(len(rows) - 1, 1)
    moved = differences @ basis
    within = moved.T @ moved / max(len(moved), 1)
    # a floor relative to the volumes' own spread keeps features regular that no alteration moves
    floor = (SHRINK * within.trace() + 1e-9 * total.trace()).clamp(min=1e-12) / keep
    variances, vectors = torch.linalg.eigh((1 - SHRINK) * within + floor * torch.eye(keep, dtype=within.dtype))
    whiten = vectors / variances.clamp(min=float(floor)).sqrt()
    apart, directions = torch.linalg.eigh(whiten.T @ total @ whiten)
    apart = apart.clamp(min=0.0)
    return Discriminant(mean, basis @ whiten @ (directions * (apart / (apart + RATIO))))
