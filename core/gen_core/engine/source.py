"""Where a fit's batches come from: volumes read on demand, or latents held in memory.

A source streams the batches of a plan, a sequence of lists of (index, epoch); the epoch chooses the augmented
view. Sources keep no position: the plan says it all, so a resumed fit simply asks for a later part.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Protocol

import torch
from torch import Tensor

from gen_core.batch import Batch, collate
from gen_core.condition import Conditions
from gen_core.dataset import Split
from gen_core.errors import GenError, RunError, UsageError

Plan = Iterable[Sequence[tuple[int, int]]]

READ_TIMEOUT = 600.0  # seconds for one batch; a dead network mount hangs for ever otherwise


class TrainingSource(Protocol):
    """What `fit` reads from."""

    def __len__(self) -> int: ...

    def stream(self, plan: Plan) -> Iterator[Batch]:
        """One batch for each element of the plan, in order."""
        ...

    def close(self) -> None:
        """Let go of workers; the source is not used afterwards."""
        ...


class SplitSource:
    """Volumes of a data-set split, read and augmented as `split.view(index, epoch)`.

    workers 0 reads inline; else that many daemon threads read ahead, and the order stays. Threads, not
    processes: reading and array arithmetic release the interpreter, batches need no copying, and forking a
    process that holds torch's threads or open files is unsafe. A split must therefore bear being read from
    several threads at once (memory-mapped, or a file opened in each call).
    """

    def __init__(self, split: Split, workers: int = 0, timeout: float = READ_TIMEOUT) -> None:
        self._split, self._workers, self._timeout = split, workers, timeout
        self._tasks: queue.SimpleQueue[tuple[Future[Batch], list[tuple[int, int]]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._split)

    def stream(self, plan: Plan) -> Iterator[Batch]:
        if not self._workers:
            for pairs in plan:
                yield self._read(pairs)
            return
        ahead: deque[tuple[Future[Batch], list[tuple[int, int]]]] = deque()
        plan = iter(plan)
        try:
            while True:
                while len(ahead) < 2 * self._workers and (pairs := next(plan, None)) is not None:
                    task = (Future(), list(pairs))
                    ahead.append(task)
                    self._tasks.put(task)
                if not ahead:
                    return
                yield self._wait(*ahead.popleft())
        finally:
            for future, _ in ahead:
                future.cancel()

    def close(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        self._threads = []

    def _read(self, pairs: Sequence[tuple[int, int]]) -> Batch:
        return collate([self._split.view(index, epoch) for index, epoch in pairs])

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, pairs = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._read(pairs))
            except BaseException as error:  # a worker hands on whatever ended it
                future.set_exception(error)

    def _wait(self, future: Future[Batch], pairs: list[tuple[int, int]]) -> Batch:
        volumes = ", ".join(str(index) for index, _ in pairs[:8])
        try:
            return future.result(timeout=self._timeout)
        except FutureTimeout:
            if future.done():  # the reader itself raised a TimeoutError
                raise RunError(f"reading volumes {volumes} timed out in the reader") from None
            raise RunError(
                f"a worker did not deliver volumes {volumes} within {self._timeout:g} s; is the data's disk reachable?"
            ) from None
        except (GenError, MemoryError):
            raise
        except Exception as error:
            raise RunError(f"a worker died reading volumes {volumes}: {error!r}") from error
        except SystemExit as error:
            raise RunError(f"a worker ended reading volumes {volumes}: {error!r}") from error


class TensorSource:
    """Latents in memory, one index_select a batch.

    z: (N, c, d, h, w), or (views, N, c, d, h, w): epoch e reads view e mod views.
    conditions: each (views, N, ...) or (N, ...), the same in every view. Tensors move to `device`.
    """

    def __init__(
        self,
        z: Tensor,
        conditions: Conditions | None = None,
        ids: Sequence[str] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if z.ndim not in (5, 6):
            raise UsageError(f"latents are {tuple(z.shape)}, expected (N, c, d, h, w) or (views, N, c, d, h, w)")
        z = z if z.ndim == 6 else z.unsqueeze(0)
        self.views, self._n = z.shape[:2]
        device = z.device if device is None else torch.device(device)
        self._z = z.flatten(0, 1).to(device)
        conditions = conditions or Conditions()
        self._conditions = Conditions(
            {name: self._rows(name, value).to(device) for name, value in conditions.values.items()},
            {name: self._rows(name, value).to(device) for name, value in conditions.present.items()},
        )
        self._ids = [str(i) for i in range(self._n)] if ids is None else list(ids)

    def __len__(self) -> int:
        return self._n

    def _rows(self, name: str, value: Tensor) -> Tensor:
        """A condition's values with a row for each latent."""
        if value.shape[:2] != (self.views, self._n):
            if value.shape[0] != self._n:
                raise UsageError(f"condition '{name}' is {tuple(value.shape)}, expected {self._n} rows")
            value = value.expand(self.views, *value.shape)
        return value.flatten(0, 1)

    def stream(self, plan: Plan) -> Iterator[Batch]:
        for pairs in plan:
            yield self._batch([(epoch % self.views) * self._n + index for index, epoch in pairs])

    def batches(self, batch: int, limit: int = 0) -> Iterator[Batch]:
        """The first view of the first `limit` volumes (0 = all) in order, for validation."""
        n = min(limit, self._n) if limit else self._n
        for start in range(0, n, batch):
            yield self._batch(list(range(start, min(start + batch, n))))

    def close(self) -> None:
        pass

    def _batch(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, device=self._z.device)
        conditions = self._conditions.take(index)
        return Batch(
            x=self._z.index_select(0, index),
            ids=[self._ids[r % self._n] for r in rows],
            condition=conditions.values,
            present=conditions.present,
        )


def split_batches(split: Split, batch: int, limit: int = 0) -> Iterator[Batch]:
    """The first `limit` volumes (0 = all) of a split as they are evaluated, in order."""
    n = min(limit, len(split)) if limit else len(split)
    for start in range(0, n, batch):
        yield collate([split[i] for i in range(start, min(start + batch, n))])
