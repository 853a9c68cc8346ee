"""A mixture of two normals over whole samples, whose denoiser, flow and density are known."""

from types import SimpleNamespace

import pytest
import torch

SHAPE = (2, 1, 2, 4)  # 16 values: probes that are exact need a power of two


@pytest.fixture
def mixture():
    """denoise(path) exact in float64, log_p(z, alpha, sigma) and draw(n): weights 0.3 and 0.7, sd 0.5 and 0.8."""
    g = torch.Generator().manual_seed(5)
    m = torch.randn(2, *SHAPE, generator=g, dtype=torch.float64)
    w, s = torch.tensor([0.3, 0.7], dtype=torch.float64), torch.tensor([0.5, 0.8], dtype=torch.float64)
    wide = lambda v: v.double().reshape(-1, 1, 1, 1, 1)

    def parts(z, alpha, sigma):
        """Of each component: z - alpha m, its variance, ln(w N)."""
        found = []
        for k in range(2):
            d, v = z.double() - alpha * m[k], alpha**2 * s[k] ** 2 + sigma**2
            ln = w[k].log() - 0.5 * (d**2 / v + (2 * torch.pi * v).log()).flatten(1).sum(1)
            found.append((d, v, ln))
        return found

    def denoise(path):
        def say(z, t):
            alpha, sigma = wide(path.alpha(t.double())), wide(path.sigma(t.double()))
            found = parts(z, alpha, sigma)
            r = torch.stack([ln for *_, ln in found]).softmax(0)
            z_0 = sum(wide(r[k]) * (m[k] + alpha * s[k] ** 2 / v * d) for k, (d, v, _) in enumerate(found))
            return z_0.to(z.dtype), ((z - alpha * z_0) / sigma).to(z.dtype)

        return say

    def log_p(z, alpha=1.0, sigma=0.0):
        one = torch.ones(1, dtype=torch.float64)
        return torch.logsumexp(torch.stack([ln for *_, ln in parts(z, wide(one * alpha), wide(one * sigma))]), 0)

    def draw(n, seed=0):
        g = torch.Generator().manual_seed(seed)
        k = torch.multinomial(w, n, True, generator=g)
        return m[k] + wide(s[k]) * torch.randn(n, *SHAPE, generator=g, dtype=torch.float64)

    return SimpleNamespace(denoise=denoise, log_p=log_p, draw=draw, shape=SHAPE)
