"""The EMA codebook against a plain float64 loop; dead codes, resets and the first start."""

import math

import pytest
import torch
from attrs import evolve

from gen_codecs.codebook import Codebook, perplexity
from gen_codecs.vq_options import CodebookOptions

CALM = CodebookOptions(dead_below=0.0, queue=64)  # no redrawing


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def started(codes=12, channels=3, n=200, options=CALM, seed=0):
    book = Codebook(codes, channels, options)
    book.start(torch.randn(n, channels, generator=rng(seed)), rng(seed))
    return book


def observe(book, v, index=0, first=True):
    idx = book.lookup(v)
    book.observe(v, idx, first, index)
    return idx


@pytest.mark.parametrize("eps", [1e-7, 1e-2])
def test_the_moving_averages_equal_a_float64_loop(eps):
    book = started(options=evolve(CALM, decay=0.9, laplace_eps=eps))
    k, c = book.codebook.shape
    N = book.counts.double().tolist()
    m = book.sums.double().tolist()
    e = book.codebook.double().tolist()
    for t in range(25):
        v = (1 + 0.1 * t) * torch.randn(40, c, generator=rng(100 + t))
        idx = observe(book, v, t).tolist()
        n = [0.0] * k
        s = [[0.0] * c for _ in range(k)]
        for row, i in zip(v.double().tolist(), idx):
            n[i] += 1
            s[i] = [a + b for a, b in zip(s[i], row)]
        for i in range(k):
            N[i] = 0.9 * N[i] + 0.1 * n[i]
            m[i] = [0.9 * a + 0.1 * b for a, b in zip(m[i], s[i])]
        total = sum(N)
        for i in range(k):
            if n[i]:  # the others keep their place
                smooth = (N[i] + eps) / (total + k * eps) * total
                e[i] = [a / smooth for a in m[i]]
        assert book.step(rng()) == 0
    assert torch.allclose(book.codebook.double(), torch.tensor(e, dtype=torch.float64), rtol=1e-4, atol=1e-5)
    assert torch.allclose(book.counts.double(), torch.tensor(N, dtype=torch.float64), rtol=1e-4, atol=1e-5)
    assert torch.allclose(book.sums.double(), torch.tensor(m, dtype=torch.float64), rtol=1e-4, atol=1e-5)


def test_micro_batches_make_one_update_of_their_sum():
    v = torch.randn(60, 3, generator=rng(7))
    whole, parts = started(), started()
    observe(whole, v)
    for i in range(3):
        observe(parts, v[20 * i : 20 * i + 20], first=i == 0)
    assert torch.equal(whole.batch_counts, parts.batch_counts)
    whole.step(rng())
    parts.step(rng())
    assert torch.allclose(whole.codebook, parts.codebook, atol=1e-6)
    assert torch.equal(whole.queue, parts.queue) and torch.equal(whole.queued, parts.queued)


def test_what_a_given_up_step_gathered_is_forgotten():
    v = torch.randn(60, 3, generator=rng(7))
    book, again = started(), started()
    observe(again, v[:20])
    for one in (book, again):
        observe(one, v)
    assert torch.equal(book.batch_sums, again.batch_sums)


def test_an_unused_code_keeps_its_place_for_ever():
    book = started(codes=4, channels=2, options=evolve(CALM, decay=0.5))
    book.codebook[3] = torch.tensor([50.0, -40.0])
    book.sums[3] = book.codebook[3] * book.counts[3]
    for t in range(300):
        observe(book, torch.randn(30, 2, generator=rng(t)), t)
        book.step(rng())
    assert book.codebook[3].tolist() == [50.0, -40.0]
    assert torch.isfinite(book.codebook).all()
    # and when it is found again after all, it goes there
    observe(book, torch.tensor([[45.0, -35.0]]).expand(30, 2))
    book.step(rng())
    assert torch.allclose(book.codebook[3], torch.tensor([45.0, -35.0]), atol=1e-3)


def test_the_first_codes_are_k_means_of_the_first_vectors_with_counts_that_agree():
    v = torch.randn(200, 3, generator=rng(3))
    book = Codebook(12, 3, CALM)
    assert not book.initialized
    book.start(v, rng())
    assert book.initialized
    idx = book.lookup(v)
    assert torch.equal(book.counts, torch.bincount(idx, minlength=12).float())
    assert torch.allclose(book.sums, book.codebook * book.counts[:, None])
    error = (v - book.codebook[idx]).square().sum()
    chosen = v[torch.randperm(200, generator=rng())[:12]]
    assert error < 0.9 * torch.cdist(v, chosen).min(1).values.square().sum()


@pytest.mark.parametrize("n", [1, 5])
def test_fewer_vectors_than_codes_are_a_start_too(n):
    book = Codebook(16, 3, CALM)
    v = torch.randn(n, 3, generator=rng())
    book.start(v, rng())
    assert torch.isfinite(book.codebook).all()
    assert torch.cdist(v, book.codebook).min(1).values.max() < 0.2


def test_dead_codes_are_redrawn_from_the_batch_with_their_ema_state():
    book = started(options=CodebookOptions(dead_below=1.0, dead_share=0.1, dead_limit=1.0, queue=64))
    book.codebook[4:6] = 1e3
    book.counts[4:6], book.sums[4:6] = 0.0, 0.0
    v = torch.randn(48, 3, generator=rng(9))
    observe(book, v)
    assert book.step(rng()) == 2
    for i in (4, 5):
        assert (v == book.codebook[i]).all(1).any()
        assert book.counts[i] == 48 / 12
        assert torch.allclose(book.sums[i], book.codebook[i] * book.counts[i])
    assert not torch.equal(book.codebook[4], book.codebook[5])
    # alive at once: the next step leaves them alone
    observe(book, v)
    assert book.step(rng()) == 0


def test_a_stale_sum_does_not_draw_a_redrawn_code_back():
    book = started(options=CodebookOptions(dead_limit=1.0, decay=0.99, queue=64))
    book.codebook[2] = 1e4
    book.counts[2], book.sums[2] = 1e-3, 10.0
    v = torch.randn(48, 3, generator=rng(9))
    for t in range(3):
        observe(book, v, t)
        book.step(rng(t))
    assert book.codebook.abs().max() < 10


def test_few_codes_are_redrawn_where_there_are_fewer_tokens_than_codes():
    options = CodebookOptions(queue=256, dead_limit=0.05)
    book = Codebook(400, 4, options)
    v = lambda t: torch.randn(40, 4, generator=rng(t))
    book.start(v(0), rng())
    before = book.codebook.clone()
    redrawn = []
    for t in range(5):
        observe(book, v(t), t)
        redrawn.append(book.step(rng(t)))
    assert max(redrawn) <= 2  # 5 % of 40 tokens, not of 400 codes
    assert ((book.codebook - before).norm(dim=1) < 1e-6).float().mean() > 0.5


def test_zero_switches_the_redrawing_off():
    book = started()
    book.codebook[0] = 1e3
    book.counts[0], book.sums[0] = 0.0, 0.0
    observe(book, torch.randn(48, 3, generator=rng(9)))
    assert book.step(rng()) == 0
    assert (book.codebook[0] == 1e3).all()


def test_the_queue_holds_the_latest_vectors():
    book = started(options=evolve(CALM, queue=10))
    rows = torch.arange(1.0, 70.0)[:, None].expand(-1, 3)
    for first, last in ((0, 4), (4, 11), (11, 12), (12, 40), (40, 43)):
        observe(book, rows[first:last])
        held = min(last, 10)
        assert sorted(book.queue[:held, 0].tolist()) == rows[last - held : last, 0].tolist()
        assert int(book.queued) == last


def test_a_reset_puts_codes_and_counts_where_k_means_over_the_queue_puts_them():
    book = started(options=evolve(CALM, queue=256), n=300)
    shifted = 8 + torch.randn(256, 3, generator=rng(5))
    for t in range(4):
        observe(book, shifted[64 * t : 64 * t + 64], t)
    before = torch.cdist(shifted, book.codebook).min(1).values.mean()
    assert book.reset(rng())
    after = torch.cdist(shifted, book.codebook).min(1).values
    assert after.mean() < 0.2 * before
    sizes = torch.bincount(book.lookup(shifted), minlength=12)
    # in proportion to the clusters, and in sum one step's vectors
    assert torch.allclose(book.counts, sizes * 64 / 256)
    assert torch.allclose(book.sums, book.codebook * book.counts[:, None])
    # the next update therefore moves no code far
    kept = book.codebook.clone()
    observe(book, shifted[:64])
    book.step(rng())
    assert (book.codebook - kept).norm(dim=1).max() < 0.1


@pytest.mark.parametrize("start", ["codebook", "k-means++"])
def test_a_reset_may_start_from_the_codes_or_anew(start):
    book = started(options=evolve(CALM, queue=100, kmeans_start=start))
    observe(book, torch.randn(100, 3, generator=rng(5)))
    assert book.reset(rng())
    assert book.counts.sum() == pytest.approx(100)
    assert torch.unique(book.codebook, dim=0).shape == (12, 3)


def test_a_queue_shorter_than_the_codes_resets_nothing():
    book = started()
    observe(book, torch.randn(11, 3, generator=rng(5)))
    before = {k: v.clone() for k, v in book.state_dict().items()}
    assert not book.reset(rng())
    assert all(torch.equal(v, before[k]) for k, v in book.state_dict().items())


def test_use_counts_the_codes_of_the_latest_steps():
    book = started(options=evolve(CALM, use_window=5))
    assert book.use(0) == 0
    observe(book, book.codebook[:6], index=1)
    assert book.use(1) == 0.5
    observe(book, book.codebook[4:9], index=4)
    assert book.use(4) == pytest.approx(9 / 12)
    assert book.use(6) == pytest.approx(5 / 12)
    assert book.use(9) == 0
    book.forget()
    assert book.use(4) == 0 and int(book.queued) == 0


def test_everything_that_changes_lies_in_the_state_dict():
    book = started(options=CodebookOptions(queue=64))
    observe(book, torch.randn(48, 3, generator=rng(1)), 3)
    book.step(rng(1))
    other = Codebook(12, 3, CodebookOptions(queue=64))
    other.load_state_dict(book.state_dict(), strict=True)
    assert other.initialized
    for one in (book, other):
        observe(one, torch.randn(48, 3, generator=rng(2)), 4)
        one.step(rng(2))
        one.reset(rng(3))
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in book.state_dict().items())


def test_perplexity_is_the_number_of_codes_used_alike():
    assert perplexity(torch.tensor([3, 3, 3]), 8) == 1
    assert perplexity(torch.arange(8), 8) == pytest.approx(8)
    p = (0.5, 0.25, 0.25)
    want = math.exp(-sum(q * math.log(q) for q in p))
    assert perplexity(torch.tensor([0, 0, 5, 7]), 8) == pytest.approx(want)
