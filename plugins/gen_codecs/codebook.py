"""The table of codes: float32 lookup in chunks, exponential moving averages, dead codes, K-means resets.

Everything that changes lies in buffers, so a resumed run goes on bit for bit and never initializes again.
Shape legend: v (N, C) encoder vectors, codebook (K, C), idx (N,).
Source: van den Oord et al. 2017, appendix A.1 (EMA); Razavi et al. 2019, section 3.1 (the same, smoothed).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_codecs.kmeans import kmeans, seed_plus_plus
from gen_codecs.nearest import nearest
from gen_codecs.vq_options import CodebookOptions

NEVER = -(2**62)  # `last_used` of a code that was never used


class Codebook(nn.Module):
    """K codes of C numbers that follow the encoder.

    `observe` gathers the sums of a (micro-)batch; `step` applies them once an optimizer step; `reset` is K-means.
    """

    def __init__(self, codes: int, channels: int, options: CodebookOptions):
        super().__init__()
        self.options = options
        zeros = torch.zeros
        self.register_buffer("codebook", zeros(codes, channels))
        # float32: running sums lose counts in half precision
        self.register_buffer("counts", zeros(codes))  # EMA of vectors a code
        self.register_buffer("sums", zeros(codes, channels))  # EMA of their sums
        self.register_buffer("batch_counts", zeros(codes))
        self.register_buffer("batch_sums", zeros(codes, channels))
        self.register_buffer("last_used", torch.full((codes,), NEVER, dtype=torch.long))
        self.register_buffer("initialized", zeros((), dtype=torch.bool))
        self.register_buffer("queue", zeros(options.queue, channels))
        self.register_buffer("queued", zeros((), dtype=torch.long))  # vectors ever queued

    @property
    def codes(self) -> int:
        return self.codebook.shape[0]

    def lookup(self, v: Tensor) -> Tensor:
        """idx (N,) int64 of the nearest codes of v (N, C)."""
        return nearest(v, self.codebook)

    @torch.no_grad()
    def start(self, v: Tensor, generator: torch.Generator) -> None:
        """The first codes: K-means over the first vectors, from a random choice of them.

        Where there are fewer vectors than codes, the choice repeats, blurred by a hundredth of their spread.
        """
        if len(v) >= self.codes:
            first = v[torch.randperm(len(v), generator=generator, device=v.device)[: self.codes]]
        else:
            pick = torch.randint(len(v), (self.codes,), generator=generator, device=v.device)
            noise = torch.randn(self.codes, v.shape[1], generator=generator, device=v.device)
            first = v[pick] + 0.01 * v.std(correction=0) * noise
        self._take(*kmeans(v, first, self.options.kmeans_iterations))
        self.initialized.fill_(True)

    def forget(self) -> None:
        """Empty the queue and the record of use, which belong to one fit: another may go on from these codes."""
        self.queued.zero_()
        self.last_used.fill_(NEVER)

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
        self.batch_counts += torch.bincount(idx, minlength=self.codes)
        self.batch_sums.index_add_(0, idx, v)
        self.last_used[idx] = step
        n = len(self.queue)
        at = (self.queued + torch.arange(max(0, len(v) - n), len(v), device=v.device)) % n
        self.queue[at] = v[-n:]
        self.queued += len(v)

    @torch.no_grad()
    def step(self, generator: torch.Generator) -> int:
        """Apply the gathered sums: N <- decay N + (1 - decay) n, m likewise, e = m / N smoothed; mend dead codes.

        Returns how many codes were redrawn. Source: van den Oord et al. 2017, eqs. 6-8; Laplace smoothing as in
        Razavi et al.'s code: N' = (N + eps) sum(N) / (sum(N) + K eps).
        """
        o = self.options
        self.counts.lerp_(self.batch_counts, 1 - o.decay)
        self.sums.lerp_(self.batch_sums, 1 - o.decay)
        total = self.counts.sum()
        smooth = (self.counts + o.laplace_eps) / (total + self.codes * o.laplace_eps) * total
        # a code without vectors keeps its place: its sum and count fade together, until eps outweighs the count and
        # would draw the code to the origin
        used = self.batch_counts[:, None] > 0
        self.codebook.copy_(torch.where(used, self.sums / smooth.clamp_min(1e-12)[:, None], self.codebook))
        return self._mend(generator)

    def _mend(self, generator: torch.Generator) -> int:
        """Redraw codes of low EMA count from the vectors of this step, at most a share of them at once.

        A redrawn code starts with the EMA state of a code of average use: it gets time to find its vectors.
        """
        o = self.options
        tokens = int(self.batch_counts.sum())
        threshold = min(o.dead_below, o.dead_share * tokens / self.codes)
        dead = (self.counts < threshold).nonzero()[:, 0]
        latest = min(tokens, len(self.queue))
        most = min(int(o.dead_limit * min(self.codes, tokens)), latest)
        if not len(dead) or most < 1:
            return 0
        dead = dead[torch.argsort(self.counts[dead], stable=True)[:most]]
        back = torch.randperm(latest, generator=generator, device=self.queue.device)[: len(dead)]
        v = self.queue[(self.queued - 1 - back) % len(self.queue)]
        self.codebook[dead] = v
        self.counts[dead] = tokens / self.codes
        self.sums[dead] = v * (tokens / self.codes)
        return len(dead)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> bool:
        """K-means over the queue: new codes with EMA counts in proportion to their clusters. False: queue too short."""
        held = min(int(self.queued), len(self.queue))
        if held < self.codes:
            return False
        v = self.queue[:held]
        start = self.codebook
        if self.options.kmeans_start == "k-means++":
            start = seed_plus_plus(v, self.codes, generator)
        centres, sizes = kmeans(v, start, self.options.kmeans_iterations)
        # the sum of the EMA counts tends to the vectors of one step
        self._take(centres, sizes * (self.batch_counts.sum() / held))
        return True

    def use(self, step: int) -> Tensor:
        """Share of codes used within the last `use_window` steps."""
        return (self.last_used > step - self.options.use_window).float().mean()


def perplexity(idx: Tensor, codes: int) -> Tensor:
    """exp of the entropy of code use in a batch: 1 = one code, K = all alike."""
    p = torch.bincount(idx, minlength=codes).float() / idx.numel()
    return torch.exp(torch.special.entr(p).sum())
