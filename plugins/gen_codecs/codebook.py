"""The table of codes: float32 lookup in chunks, exponential moving averages, dead codes, K-means resets.

Everything that changes lies in buffers, so a resumed run goes on bit for bit and never initializes again.
Shape legend: v (N, C) encoder vectors, codebook (K, C), idx (N,).
Source: van den Oord et al. 2017, appendix A.1 (EMA); Razavi et al. 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_codecs.vq_options import CodebookOptions

ROWS = 1024  # vectors looked up at once: the distances of a chunk stay in the cache


def nearest(v: Tensor, codebook: Tensor) -> Tensor:
    """idx (N,) int64 of the code with the least squared distance; no (N, K) matrix is kept.

    |v - e|^2 = |v|^2 - 2 (v e - |e|^2 / 2): the first term is the same for every code and left out.
    """
    half = -0.5 * codebook.square().sum(1)
    e = codebook.t().contiguous()
    idx = torch.empty(len(v), dtype=torch.long, device=v.device)
    for start in range(0, len(v), ROWS):
        torch.argmax(torch.addmm(half, v[start : start + ROWS], e), 1, out=idx[start : start + ROWS])
    return idx


class Codebook(nn.Module):
    """K codes of C numbers that follow the encoder.

    `observe` gathers the sums of a (micro-)batch; `step` applies them once an optimizer step; `reset` is K-means.
    """

    def __init__(self, codes: int, channels: int, options: CodebookOptions):
        super().__init__()
        self.options = options
        zeros = torch.zeros
        self.register_buffer("codebook", zeros(codes, channels))
        self.register_buffer("counts", zeros(codes))  # EMA of vectors a code
        self.register_buffer("sums", zeros(codes, channels))  # EMA of their sums
        self.register_buffer("batch_counts", zeros(codes))
        self.register_buffer("batch_sums", zeros(codes, channels))
        self.register_buffer("last_used", torch.full((codes,), -1, dtype=torch.long))
        self.register_buffer("initialized", zeros((), dtype=torch.bool))
        self.register_buffer("queue", zeros(options.queue, channels))
        self.register_buffer("queued", zeros((), dtype=torch.long))  # vectors ever queued

    @property
    def codes(self) -> int:
        return self.codebook.shape[0]

    def lookup(self, v: Tensor) -> Tensor:
        return nearest(v.float(), self.codebook)

    @torch.no_grad()
    def start(self, v: Tensor, generator: torch.Generator) -> None:
        """The first codes: K-means over the first batch's vectors (with noise where there are fewer than codes)."""
        from gen_codecs.kmeans import kmeans

        pick = torch.randint(len(v), (self.codes,), generator=generator, device=v.device)
        if len(v) >= self.codes:
            pick = torch.randperm(len(v), generator=generator, device=v.device)[: self.codes]
        first = v[pick]
        if len(v) < self.codes:
            noise = torch.randn(first.shape, generator=generator, device=v.device)
            first = first + 0.01 * v.std() * noise
        centres, sizes = kmeans(v, first, self.options.kmeans_iterations)
        self._take(centres, sizes / len(v) * len(v))
        self.initialized.fill_(True)

    def _take(self, centres: Tensor, counts: Tensor) -> None:
        """Set codes together with EMA state that agrees with them."""
        self.codebook.copy_(centres)
        self.counts.copy_(counts)
        self.sums.copy_(centres * counts[:, None])

    @torch.no_grad()
    def observe(self, v: Tensor, idx: Tensor, first: bool, step: int) -> None:
        """Gather a micro-batch: sums for `step`, vectors for the queue, when each code was last used."""
        if first:
            self.batch_counts.zero_()
            self.batch_sums.zero_()
        self.batch_counts += torch.bincount(idx, minlength=self.codes).to(self.batch_counts.dtype)
        self.batch_sums.index_add_(0, idx, v)
        self.last_used[idx] = step
        n = len(self.queue)
        v = v[-n:]
        at = (self.queued + torch.arange(len(v), device=v.device)) % n
        self.queue[at] = v
        self.queued += len(v)

    @torch.no_grad()
    def step(self, generator: torch.Generator) -> int:
        """Apply the gathered sums: N <- decay N + (1 - decay) n, m likewise, e = m / N smoothed; mend dead codes.

        Returns how many codes were redrawn. Source: van den Oord et al. 2017, eqs. 6-8.
        """
        o = self.options
        self.counts.lerp_(self.batch_counts, 1 - o.decay)
        self.sums.lerp_(self.batch_sums, 1 - o.decay)
        total = self.counts.sum()
        smooth = (self.counts + o.laplace_eps) / (total + self.codes * o.laplace_eps) * total
        # a code that has not been used for long keeps its place: its sum and count fade together
        alive = self.counts > 1e-6
        self.codebook.copy_(torch.where(alive[:, None], self.sums / smooth.clamp_min(1e-12)[:, None], self.codebook))
        return self._mend(generator)

    def _mend(self, generator: torch.Generator) -> int:
        """Redraw codes whose EMA count is low from the queue, at most a share of them in a step."""
        o = self.options
        tokens = float(self.batch_counts.sum())
        threshold = min(o.dead_below, o.dead_share * tokens / self.codes)
        most = int(o.dead_limit * min(self.codes, tokens))
        dead = (self.counts < threshold).nonzero()[:, 0]
        held = min(int(self.queued), len(self.queue))
        if not len(dead) or most < 1 or not held:
            return 0
        dead = dead[torch.argsort(self.counts[dead], stable=True)[:most]]
        pick = torch.randint(held, (len(dead),), generator=generator, device=self.queue.device)
        fresh = max(threshold, tokens / self.codes * (1 - o.decay), 1e-3)
        self.codebook[dead] = self.queue[pick]
        self.counts[dead] = fresh
        self.sums[dead] = self.queue[pick] * fresh
        return len(dead)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> bool:
        """K-means over the queue: new codes with EMA counts in proportion to their clusters. False: queue too short."""
        from gen_codecs.kmeans import kmeans, seed_plus_plus

        held = min(int(self.queued), len(self.queue))
        if held < self.codes:
            return False
        v = self.queue[:held]
        start = self.codebook if self.options.kmeans_start == "codebook" else seed_plus_plus(v, self.codes, generator)
        centres, sizes = kmeans(v, start, self.options.kmeans_iterations)
        tokens = self.batch_counts.sum().clamp_min(1.0)
        self._take(centres, sizes / held * tokens)
        return True

    def use(self, step: int) -> Tensor:
        """Share of codes used within the last `use_window` steps."""
        return (self.last_used > step - self.options.use_window).float().mean()


def perplexity(idx: Tensor, codes: int) -> Tensor:
    """exp of the entropy of code use in a batch: 1 = one code, K = all alike."""
    p = torch.bincount(idx, minlength=codes).float() / idx.numel()
    return torch.exp(-(p * (p + 1e-10).log()).sum())
