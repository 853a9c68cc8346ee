"""Starting as one of several processes: what `torchrun`, or whoever else starts them, says in the environment.

RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; LOCAL_RANK and LOCAL_WORLD_SIZE where there are several machines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch

from gen_core.engine.device import resolve_device
from gen_core.engine.lifeline import Lifeline
from gen_core.engine.ranks import Ranks, Team
from gen_core.engine.stop import StopFlag
from gen_core.errors import RunError, UsageError

MEETING = timedelta(minutes=10)  # for all processes to start
# one process may score samples for hours while the others wait: who is gone is noticed by the lifeline
PATIENCE = timedelta(days=30)
NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def among_several() -> bool:
    """Whether the environment says that this process is one of several."""
    return _number("WORLD_SIZE", 1) > 1 and "RANK" in os.environ


@contextmanager
def joined(stop: StopFlag, init_method: str = "env://") -> Iterator[Ranks]:
    """The processes that this one works with: alone unless the environment says otherwise.

    Sets this process's number of threads, unless OMP_NUM_THREADS does. Raises: UsageError for an environment that
    says half; RunError when the processes do not find each other.
    """
    if not among_several():
        yield Ranks()
        return
    missing = [name for name in NAMES if name not in os.environ] if init_method == "env://" else []
    if missing:
        raise UsageError(f"WORLD_SIZE is set, {', '.join(missing)} not: start several processes with torchrun")
    rank, world = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, _cores() // _number("LOCAL_WORLD_SIZE", world)))
    team = _meet(rank, world, init_method, stop)
    clean = False
    try:
        with team.agreeing():
            yield team
            team.exchange()  # an error of the first process while the others were done
        clean = True
    finally:
        _part(team, clean)


def _meet(rank: int, world: int, init_method: str, stop: StopFlag) -> Team:
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "cpu:gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(_number("LOCAL_RANK", rank) % torch.cuda.device_count())
    lifeline = Lifeline(rank, world, stop)
    try:
        store, _, _ = next(rendezvous(init_method, rank, world, timeout=MEETING))
        store.set_timeout(MEETING)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
        team = Team(rank, world, lifeline)
        port, token = team.told(lifeline.listen() if rank == 0 else None)
        if rank == 0:
            lifeline.accept()
        else:
            lifeline.connect(os.environ.get("MASTER_ADDR", "127.0.0.1"), port, token)
    except (RuntimeError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise RunError(f"process {rank} of {world} does not find the others: {said}") from error
    return team


def _part(team: Team, clean: bool) -> None:
    """Let go of the others. After an error the sockets are left to the operating system: nobody waits for anybody."""
    import torch.distributed as dist

    assert team.lifeline is not None
    team.lifeline.close()
    if clean and dist.is_initialized():
        dist.destroy_process_group()


def device_of(name: str, ranks: Ranks) -> torch.device:
    """`resolve_device`, but each process of a machine has a GPU of its own.

    Raises: UsageError when there are fewer, or the name pins all processes to one.
    """
    device = resolve_device(name)
    if ranks.world == 1 or device.type != "cuda":
        return device
    local, present = _number("LOCAL_RANK", ranks.rank), torch.cuda.device_count()
    if ":" in name:
        raise UsageError(f"device '{name}': several processes share one GPU; use device = cuda")
    if local >= present:
        raise UsageError(f"process {local} of this machine has no GPU: there are {present}; start as many processes")
    return torch.device("cuda", local)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise UsageError(f"{name} = '{text}' in the environment: expected a number")
    return int(text)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
