"""What several processes hold of a batch, each played in turn: rows, sums and means are those of the whole."""

from __future__ import annotations

import threading

import pytest
import torch

from gen_core import share
from gen_core.share import share_of


def test_parts_cover_the_whole_and_stand_ins_count_for_nothing():
    for size in (1, 2, 5, 8):
        parts = [share_of(size, rank, 3, lambda x: None) for rank in range(3)]
        covered = [row for p in parts if p.counts for row in range(p.first, p.last)]
        assert covered == list(range(size))
        assert sum(p.weight for p in parts) == pytest.approx(1.0)
        assert all(0 <= p.first < p.last <= size for p in parts)
        assert sum(p.counts for p in parts) == min(size, 3)


@pytest.mark.parametrize("each", [1, 4])
def test_rows_are_those_of_the_draw_for_the_whole(each):
    draw = lambda n: torch.rand(n, 3, generator=torch.Generator().manual_seed(4))
    found = []
    for rank in range(3):
        part = share_of(7, rank, 3, lambda x: None)
        with share.working_on(part):
            found.append(share.rows((part.last - part.first) * each, draw))
    assert torch.equal(torch.cat(found), draw(7 * each))


def test_alone_nothing_is_changed():
    x = torch.randn(3, 2)
    assert share.current() is None
    assert share.total(x) is x and share.mean(x) is x and share.whole(x) is x and share.ours(x) is x
    assert torch.equal(share.rows(2, lambda n: x[:n]), x[:2])
    with share.head(6, lambda n: n // 2) as found:
        assert found == (3, 1.0)


def test_a_share_is_forgotten_on_leaving_also_by_an_error():
    with pytest.raises(ValueError), share.working_on(share_of(4, 0, 2, lambda x: None)):
        raise ValueError
    assert share.current() is None


def test_rows_that_are_not_the_batch_are_our_own_mistake():
    with share.working_on(share_of(6, 0, 2, lambda x: None)), pytest.raises(AssertionError, match="do not belong"):
        share.rows(4, torch.rand)


class Together:
    """Sums over threads that play processes."""

    def __init__(self, world: int):
        self.barrier, self.lock, self.world = threading.Barrier(world), threading.Lock(), world
        self.total = None

    def add(self, x: torch.Tensor) -> None:
        with self.lock:
            self.total = x.clone() if self.total is None else self.total + x
        self.barrier.wait(30)
        x.copy_(self.total)
        self.barrier.wait(30)
        self.total = None
        self.barrier.wait(30)


def _played(world: int, size: int, work) -> list:
    """What `work(share)` gives in each of `world` processes, played by threads."""
    together, found = Together(world), [None] * world

    def one(rank: int) -> None:
        found[rank] = work(share_of(size, rank, world, together.add))

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.parametrize("world, size", [(2, 5), (3, 2)])
def test_gradients_of_gradients_through_a_sum_are_those_of_the_whole(world, size):
    """(sum over rows of x^3 w)^2, its gradient's square as the loss: a closed form in float64."""
    x = torch.randn(size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def work(part):
        rows = x[part.first : part.last].clone().requires_grad_(True)
        kept = rows.pow(3).sum(0) if part.counts else rows.pow(3).sum(0) * 0
        total = share._Sum.apply(kept, part.add)
        # each process's loss is its part of one loss: here 1 / world of it
        (slope,) = torch.autograd.grad((total.square().sum() / world), rows, create_graph=True)
        loss = slope.square().sum() if part.counts else slope.square().sum() * 0
        loss.backward()
        return rows.grad if part.counts else rows.grad[:0]

    found = torch.cat(_played(world, size, work))
    whole = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(whole.pow(3).sum(0).square().sum(), whole, create_graph=True)
    slope.square().sum().backward()
    torch.testing.assert_close(found, whole.grad, rtol=1e-12, atol=1e-12)
