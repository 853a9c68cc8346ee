"""One task of a Slurm job: starts `gen` as one rank, hands signals on, and puts a stopped run back into the queue.

`gen` is a process of its own, so that its exit code decides: 0 ends the job, 75 (stopped, resumable) puts it back into
the queue, anything else fails the job with that code.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

from gen_core.errors import Stopped

ASK = (signal.SIGUSR1, signal.SIGUSR2)  # stop and come back: the time is nearly over, or somebody asked
MARGIN_S = 20  # seconds kept before the end of the time, to put a job back that does not stop
PORTS = range(12_000, 32_000)  # below the ports that systems give to outgoing connections


def rank_environment(env: Mapping[str, str], host: str) -> dict[str, str]:
    """Slurm's variables as `torchrun` names them; `host` is where rank 0 runs.

    The port follows from the job's number: all tasks find the same without speaking to each other.
    """
    ranks, nodes = int(env.get("SLURM_NTASKS", 1)), int(env.get("SLURM_JOB_NUM_NODES", 1))
    return {
        "RANK": env.get("SLURM_PROCID", "0"),
        "LOCAL_RANK": env.get("SLURM_LOCALID", "0"),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks // nodes),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(PORTS[int(env.get("SLURM_JOB_ID", 0)) % len(PORTS)]),
    }


class Task:
    """What submitit carries to every task of a job: words to run, and how to go on when they stop.

    grace_s: seconds between the signal and the end of the time. requeues: how often the job may be put back.
    """

    def __init__(self, words: Sequence[str], grace_s: float, requeues: int):
        self.words, self.grace_s, self.requeues = list(words), grace_s, requeues
        self._asked_at: float | None = None
        self._ended_by_others = False
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run to the end. Raises: SystemExit with the code that the task ends with, unless that is 0."""
        import submitit

        hosts = submitit.JobEnvironment().hostnames
        environment = {**os.environ, **rank_environment(os.environ, hosts[0])}
        # A cluster signals every process of the job; `gen` knows SIGUSR1, and would die of SIGUSR2: it inherits to
        # ignore it. A signal sent before it listens ends it, which counts as stopped.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        self._child = subprocess.Popen(self.words, env=environment, stdin=subprocess.DEVNULL)
        for number in (*ASK, signal.SIGTERM):
            signal.signal(number, self._hand_on)
        code = self._wait()
        if code != Stopped.exit_code:
            if code:
                sys.exit(code)
            return
        if environment["RANK"] != "0":
            sys.exit(0)  # rank 0 decides whether the job goes on
        self._put_back()
        sys.exit(code)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM comes from `scancel`, or before a preemption after which Slurm itself starts the job again."""
        if number in ASK:
            self._asked_at = self._asked_at or time.monotonic()
        else:
            self._ended_by_others = True
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGUSR1 if number in ASK else number)

    def _wait(self) -> int:
        """The exit code of `gen`; 75 too when a signal that we handed on, or its deadline, ended it."""
        assert self._child is not None
        while True:
            try:
                code = self._child.wait(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if self._asked_at and time.monotonic() > self._asked_at + self.grace_s - MARGIN_S:
                    say("gen did not stop in time and is killed: it will go on from its last checkpoint")
                    self._child.kill()  # its lock on the run folder dies with it
                    self._child.wait()
                    return Stopped.exit_code
        if -code in (signal.SIGUSR1, signal.SIGTERM) and (self._asked_at or self._ended_by_others):
            return Stopped.exit_code
        return code if code >= 0 else 128 - code

    def _put_back(self) -> None:
        """Into the queue again, as the same job with the same log."""
        if self._ended_by_others and not self._asked_at:
            say("ended by SIGTERM: not put back; the same `gen run` command goes on from here")
            return
        done = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        if done >= self.requeues:
            say(f"stopped, and put back {done} times already: not again; the same `gen run` command goes on from here")
            return
        array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ["SLURM_JOB_ID"]
        if array:
            job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        say(f"stopped: job {job} goes back into the queue ({done + 1} of at most {self.requeues})")
        try:
            subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            say(f"Slurm did not take it back ({error}); the same `gen run` command goes on from here")


def say(text: str) -> None:
    """One line into the job's log."""
    print(f"launcher: {text}", flush=True)
