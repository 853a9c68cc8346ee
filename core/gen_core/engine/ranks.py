"""Several processes as one: sums, words, and leaving together.

A process that must leave what all work on (a stop, a lack of memory, an error) says so in the exchange that opens
every collective operation, wherever the others meet it next; all of them then leave at that same place, and no
operation is left half done. `Ranks` is one process alone, for which all of this is nothing; `Team` is several.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gen_core.engine.lifeline import Lifeline
from gen_core.errors import DataError, GenError, MissingError, RunError, Stopped, UsageError

GOING, STOP, MEMORY, SUSPECT, ERROR, CERTAIN = range(6)  # the gravest is what all leave for
SOON = 3.0  # seconds in which the lifeline knows who is lost, after an operation has failed
BY_CODE = {e.exit_code: e for e in (UsageError, MissingError, DataError, RunError, Stopped)}


class Left(Exception):
    """All processes leave what they were doing. kind: why; rank: whose reason it is; said: what it told."""

    def __init__(self, kind: int, rank: int, said: dict[str, Any]) -> None:
        super().__init__(said.get("message", ""))
        self.kind, self.rank, self.said = kind, rank, said


class Ranks:
    """One process alone."""

    rank, world = 0, 1

    @property
    def leads(self) -> bool:
        """Whether this process writes, shows and decides."""
        return self.rank == 0

    def exchange(self, kind: int = GOING, said: dict[str, Any] | None = None) -> None:
        """Hear whether any process has to leave. Raises: Left in all of them when one has."""
        if kind != GOING:
            raise Left(kind, 0, said or {})

    def add(self, x: Tensor) -> None:
        """Sum a contiguous tensor over all processes, in place. Raises: Left."""

    def add_all(self, tensors: Sequence[Tensor]) -> None:
        """Sum several tensors in place, as one flat tensor for each type. Raises: Left."""

    def gathered(self, value: Any) -> list[Any]:
        """The JSON values of all processes, in their order. Raises: Left."""
        return [value]

    def told(self, value: Any = None) -> Any:
        """The JSON value of the first process. Raises: Left."""
        return self.gathered(value)[0]

    def ask_stop(self, reason: str) -> None:
        """Raise the stop flag of every process."""

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """An error inside leads all processes out, with the same exit code."""
        yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is inside waits for all processes in operations that no exchange opens: an error ends all of them."""
        yield


class Team(Ranks):
    """This process among several, once torch.distributed runs; gloo carries the words, on any device."""

    def __init__(self, rank: int, world: int, lifeline: Lifeline | None = None) -> None:
        self.rank, self.world, self.lifeline = rank, world, lifeline
        self._broken = ""

    def exchange(self, kind: int = GOING, said: dict[str, Any] | None = None) -> None:
        import torch.distributed as dist

        worst = torch.tensor([kind], dtype=torch.int32)
        self._do(lambda: dist.all_reduce(worst, dist.ReduceOp.MAX))
        gravest = int(worst)
        if gravest == GOING:
            return
        heard = self._gather({"kind": kind, **(said or {})})
        rank = next(i for i, told in enumerate(heard) if told["kind"] == gravest)
        raise Left(gravest, rank, heard[rank])

    def add(self, x: Tensor) -> None:
        self.exchange()
        self._add(x)

    def add_all(self, tensors: Sequence[Tensor]) -> None:
        self.exchange()
        for kind in dict.fromkeys(t.dtype for t in tensors):
            alike = [t for t in tensors if t.dtype == kind]
            flat = torch.cat([t.reshape(-1) for t in alike])
            self._add(flat)
            pieces = flat.split([t.numel() for t in alike])
            torch._foreach_copy_(alike, [p.view_as(t) for p, t in zip(pieces, alike)])

    def gathered(self, value: Any) -> list[Any]:
        self.exchange()
        return self._gather(value)

    def ask_stop(self, reason: str) -> None:
        if self.lifeline is not None:
            self.lifeline.ask_stop(reason)

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        try:
            yield
        except Left as left:
            raise self.error_of(left) from left
        except Exception as error:
            if agreed(error) or self._broken:
                raise
            code = error.exit_code if isinstance(error, GenError) else RunError.exit_code
            message = str(error) if isinstance(error, GenError) else f"unexpected {type(error).__name__}: {error}"
            kind = STOP if isinstance(error, Stopped) else ERROR
            if kind == ERROR:
                self.ask_stop(f"an error of process {self.rank}")  # those at long work of their own leave it
            try:
                self.exchange(kind, {"code": code, "message": message})
            except Left as left:
                if left.rank != self.rank:
                    raise self.error_of(left) from error
                error.agreed = True  # type: ignore[attr-defined]
            raise

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except Left:
            raise
        except Exception as error:
            if agreed(error) or self._broken:
                raise
            line = self.lifeline
            if line is not None:
                if isinstance(error, RuntimeError) and not isinstance(error, GenError):
                    line.lost_now.wait(SOON)  # it may only say that another process is gone
                if line.lost:
                    self._broken = line.lost
                    raise RunError(line.lost) from error
                line.fail(str(error) or type(error).__name__)
            self._broken = " ".join(str(error).split()) or type(error).__name__
            error.agreed = True  # type: ignore[attr-defined]
            raise

    def error_of(self, left: Left) -> GenError:
        """What a process raises for which all leave; only the first process has to tell it."""
        kind = BY_CODE.get(left.said.get("code", Stopped.exit_code if left.kind == STOP else RunError.exit_code))
        message = left.said.get("message", "stopped; the same command goes on from here")
        whose = f"process {left.rank} of {self.world}: " if left.rank and left.kind != STOP else ""
        error = (kind or RunError)(whose + message)
        error.agreed, error.told = True, not self.leads  # type: ignore[attr-defined]
        return error

    # what opens with no exchange

    def _gather(self, value: Any) -> list[Any]:
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = torch.zeros(self.world, dtype=torch.int64)
        sizes[self.rank] = len(data)
        self._add(sizes)
        buffer = torch.zeros(int(sizes.sum()), dtype=torch.uint8)
        parts = buffer.split(sizes.tolist())
        parts[self.rank].copy_(data)
        self._add(buffer)
        return [json.loads(bytes(part.tolist())) for part in parts]

    def _add(self, x: Tensor) -> None:
        import torch.distributed as dist

        self._do(lambda: dist.all_reduce(x))

    def _do(self, operation: Callable[[], object]) -> None:
        """Run a collective operation. Raises: RunError naming the process that is lost."""
        if self._broken:
            raise RunError(self._broken)
        try:
            operation()
        except RuntimeError as error:
            if self.lifeline is not None:
                self.lifeline.lost_now.wait(SOON)
            lost = self.lifeline.lost if self.lifeline is not None else ""
            said = " ".join(str(error).split())[:200]
            self._broken = lost or f"the processes lost each other: {said}"
            raise RunError(self._broken) from error


def agreed(error: BaseException | None) -> bool:
    """Whether all processes know of this error, or of the one it stands for."""
    while error is not None:
        if getattr(error, "agreed", False):
            return True
        error = error.__cause__ or error.__context__
    return False
