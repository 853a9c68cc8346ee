"""Buffers come back; shortage of memory is recognized."""

from __future__ import annotations

import torch

from gen_core.engine.rollback import Rollback, out_of_memory


def test_buffers_come_back_bit_by_bit_even_when_replaced(tiny):
    module = tiny.Tiny()
    module(tiny.data())  # moves the running statistics
    before = {k: v.clone() for k, v in module.state_dict().items()}
    rollback = Rollback(module)
    for _ in range(2):
        rollback.remember()
        module(tiny.data() + 5)
        module.queue.fill_(float("nan"))
        module.seen = torch.tensor(9)  # another type
        module.counts = torch.zeros(5)  # another shape
        state = rollback.state_dict()
        assert all(torch.equal(state[k], v) for k, v in before.items())
        rollback.restore()
        after = module.state_dict()
        assert all(torch.equal(after[k], v) and after[k].dtype == v.dtype for k, v in before.items())


def test_copies_are_made_in_place(tiny):
    module = tiny.Tiny()
    rollback = Rollback(module)
    rollback.remember()
    places = {k: v.data_ptr() for k, v in rollback.state_dict().items()}
    module.queue.add_(1)
    rollback.remember()
    assert {k: v.data_ptr() for k, v in rollback.state_dict().items()} == places
    assert rollback.state_dict()["queue"].tolist() == [1.0] * 6
    assert rollback.state_dict()["queue"].data_ptr() != module.queue.data_ptr()


def test_shortage_of_memory_is_told_from_other_errors():
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: not enough memory"))
    assert not out_of_memory(RuntimeError("The size of tensor a (3) must match"))


def test_the_cpu_allocators_own_error_is_recognized():
    try:
        torch.empty(2**60)
    except RuntimeError as error:
        assert out_of_memory(error)
    else:
        raise AssertionError("the allocator gave away an exabyte")
