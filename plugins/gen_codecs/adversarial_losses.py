"""Losses between generator and discriminators.

Source: Lim & Ye 2017 (hinge); Mao et al. 2017, eq. 9 (least squares); Wang et al. 2018, eq. 4 (feature matching);
Esser et al. 2021, eq. 7 (adaptive weight).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gen_core.share import part, total


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(max(0, 1 - D(x)) + max(0, 1 + D(x_hat))) / 2, means over patches."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator(fake: Tensor) -> Tensor:
    """-D(x_hat), mean over patches."""
    return -fake.mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """((D(x) - 1)^2 + D(x_hat)^2) / 2, means over patches."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def least_squares_generator(fake: Tensor) -> Tensor:
    """(D(x_hat) - 1)^2, mean over patches."""
    return (fake - 1).square().mean()


def feature_matching(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean L1 between the discriminator's maps of data (detached) and reconstruction, logits left out."""
    pairs = list(zip(real[:-1], fake[:-1]))
    return sum((F.l1_loss(f, r.detach()) for r, f in pairs), torch.zeros((), device=fake[-1].device)) / len(pairs)


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: nn.Parameter) -> Tensor:
    """|grad of the reconstruction loss| / |grad of the adversarial loss| at the last decoder layer, in [0, 1e4]."""
    # of the whole batch, of which other processes may hold parts
    slope = lambda loss: total(torch.autograd.grad(part(loss), last, retain_graph=True)[0]).norm()
    return (slope(reconstruction) / (slope(adversarial) + 1e-4)).clamp(0, 1e4).detach()
