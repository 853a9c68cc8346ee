"""Whole runs on several processes: what `torchrun` starts, and what plain environment variables start."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gen_core.engine.join import joined
from gen_core.engine.stop import StopFlag
from gen_core.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
RECIPE = str(ROOT / "recipes" / "tiny.toml")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(world: int, folder: Path, *command: str) -> list[subprocess.Popen[str]]:
    """`gen COMMAND` as `world` processes that know of each other by the environment."""
    known = {**os.environ, "OMP_NUM_THREADS": "1"}
    if world > 1:
        known |= {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "gen_cli.main", *command],
            cwd=folder,
            env={**known, "RANK": str(rank)} if world > 1 else known,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for rank in range(world)
    ]


def end(processes: list[subprocess.Popen[str]], seconds: float = 400) -> tuple[list[int], list[str]]:
    """Exit codes and outputs; none of them outlives this."""
    try:
        texts = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], texts


def gen(world: int, folder: Path, *command: str) -> list[str]:
    codes, texts = end(start(world, folder, *command))
    assert codes == [0] * world, "\n".join(texts)
    return texts


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    files = [path for pattern in patterns for path in folder.rglob(pattern) if "checkpoints" not in path.parts]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The tiny recipe on two processes, without its slowest parts: a few steps each."""
    folder = tmp_path_factory.mktemp("shared")
    short = ["--set", "codec.fit.steps=6", "--set", "codec.discriminator.start=2", "--set", "prior.fit.steps=6"]
    short += ["--set", "dataset.subjects=12", "--set", "segmenter.fit.steps=5", "--set", "sample.n=10"]
    short += ["--set", "sample.batch=4", "--set", "trackers.csv.use=csv"]
    texts = gen(2, folder, "run", RECIPE, "--out", "tiny", *short)
    return folder, texts


def test_a_whole_run_on_two_processes(shared):
    folder, (lead, other) = shared
    run = folder / "tiny"
    assert (run / "report.html").exists() and json.loads((run / "metrics.json").read_text())["results"]
    assert len(list((run / "samples").glob("*.npy"))) == 10
    assert "[segmenter] is fitted by one of the 2 processes" in lead
    assert other == "", "only the first process talks"
    assert json.loads((run / "machine.json").read_text())["processes"] == 2
    assert not list(run.rglob("*.partial*"))
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    train = [e["step"] for e in events if e["kind"] == "train" and e["stage"] == "fit.codec"]
    assert train == sorted(set(train)), "two processes wrote events"
    table = (run / "trackers" / "csv" / "scalars.csv").read_text().splitlines()
    assert "[trackers." not in lead and len(table) == len(set(table)) > 20, "two processes tracked"


def test_latents_and_samples_are_the_same_bytes_on_any_number_of_processes(shared):
    folder, _ = shared
    run = folder / "tiny"
    kept = lambda: digests(run / "steps" / "encode", "*.safetensors") | digests(run / "samples", "*.npy")
    before = kept()
    drawn = {}
    for world in (1, 3):
        out = f"drawn-{world}"
        gen(world, folder, "sample", "--run", "tiny", "-n", "10", "--out", out)
        drawn[world] = digests(folder / out, "*.npy")
        rows = json.loads((folder / out / "manifest.json").read_text())["samples"]
        assert [row["index"] for row in rows] == list(range(10))
    assert len(before) > 10 and drawn[1] == drawn[3] == digests(run / "samples", "*.npy")


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 3])
def test_encoding_again_gives_the_same_bytes(shared, world):
    folder, _ = shared
    encode = folder / "tiny" / "steps" / "encode"
    before = digests(encode, "*.safetensors")
    gen(
        world,
        folder,
        "run",
        str(folder / "tiny" / "recipe.lock.toml"),
        "--out",
        "tiny",
        "--from",
        "encode",
        "--until",
        "encode",
    )
    assert digests(encode, "*.safetensors") == before and len(before) == 3


def wait_for(found, processes, seconds: float = 200) -> None:
    limit = time.monotonic() + seconds
    while not found() and time.monotonic() < limit:
        assert all(p.poll() is None for p in processes), end(processes)
        time.sleep(0.02)
    assert found()


@pytest.mark.slow
def test_a_run_whose_process_is_killed_goes_on_to_the_bits_of_one_that_was_not(tmp_path):
    gen(2, tmp_path, "run", RECIPE, "--out", "one/whole")  # runs beside each other share equal steps
    processes = start(2, tmp_path, "run", RECIPE, "--out", "two/cut")
    wait_for(lambda: list((tmp_path / "two" / "cut").glob("steps/fit.codec/checkpoints/step-*")), processes)
    os.killpg(processes[1].pid, signal.SIGKILL)
    began = time.monotonic()
    codes, texts = end(processes)
    assert time.monotonic() - began < 15
    assert codes == [5, -signal.SIGKILL]
    assert "process 1 of 2 ended without a word" in texts[0].splitlines()[-1]
    gen(2, tmp_path, "run", RECIPE, "--out", "two/cut")
    patterns = ("*.safetensors", "metrics.json", "manifest.json", "*.npy")
    assert digests(tmp_path / "two" / "cut", *patterns) == digests(tmp_path / "one" / "whole", *patterns)


@pytest.mark.slow
def test_torchrun_starts_it_and_an_error_of_the_first_process_ends_all(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    run = lambda *more: subprocess.run(
        [*command, "-m", "gen_cli.main", "run", RECIPE, "--out", "tiny", "--until", "encode", *more],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    done = run()
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "tiny" / "machine.json").read_text())["processes"] == 2
    refused = run("--set", "codec.fit.lr=1e-3")
    assert refused.returncode != 0 and refused.stderr.count("was made with other settings") == 1


def test_half_an_environment_is_refused_in_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(UsageError, match="^WORLD_SIZE is set, MASTER_ADDR not: start several processes with torchrun$"):
        with joined(StopFlag()):
            pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE = 'two' in the environment: expected a number"):
        with joined(StopFlag()):
            pass


def test_without_an_environment_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(StopFlag()) as ranks:
        assert ranks.leads and ranks.world == 1 and ranks.gathered("word") == ["word"]
