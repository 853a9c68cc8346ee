"""Runs as Slurm jobs: what is asked of the cluster, what every task is told, and what each way to end leads to.

The cluster is tests/cli/fake_slurm.py: it really runs the job scripts, signals them and puts them back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gen_cli.launchers.arguments import slurm_options
from gen_cli.launchers.slurm import submit
from gen_cli.launchers.slurm_options import SlurmOptions
from gen_cli.launchers.task import MARGIN_S, rank_environment
from gen_core.errors import MissingError, RunError, UsageError

pytest.importorskip("submitit")
FAKE = Path(__file__).with_name("fake_slurm.py")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")

# Stands for `gen`: notes what it is told; the first call goes on until it is asked to stop, the second is done at once.
STAND_IN = """
import json, os, signal, sys, time
folder, ending = sys.argv[1], sys.argv[2]
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
calls = len([f for f in os.listdir(folder) if f.startswith("call-" + os.environ["RANK"])])
print("call", calls, "of rank", os.environ["RANK"], flush=True)
if ending == "deaf":
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
else:
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(75))
with open(f"{folder}/call-{os.environ['RANK']}-{calls}", "w") as file:
    json.dump({name: os.environ[name] for name in names}, file)
if ending.isdigit():
    sys.exit(int(ending))
if calls == 0 or ending == "never":
    time.sleep(60)
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Puts the fake commands first on the path; nothing of a job outlives the test."""
    root, commands = tmp_path / "cluster", tmp_path / "bin"
    root.mkdir()
    commands.mkdir()
    for name in ("sbatch", "srun", "scontrol", "scancel", "squeue", "sacct"):
        (commands / name).write_text(f"#!{sys.executable}\n" + FAKE.read_text())
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(root))
    monkeypatch.setenv("FAKE_SLURM_BIN", str(commands))
    for name in [n for n in os.environ if n.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    cluster = Cluster(root, tmp_path)
    yield cluster
    cluster.end()


class Cluster:
    def __init__(self, root: Path, folder: Path):
        self.root, self.folder = root, folder

    def submit(self, ending: str, **options) -> str:
        """Queue the stand-in. Returns the job's number."""
        (self.folder / "gen.py").write_text(STAND_IN)
        words = [sys.executable, str(self.folder / "gen.py"), str(self.folder), ending]
        (row,) = submit([("stand-in", words)], self.folder, SlurmOptions(**{"gpus_per_node": 0, **options}))
        return row["job"]

    def state(self, job: str) -> dict:
        return json.loads((self.root / f"job-{job}" / "state.json").read_text())

    def script(self, job: str) -> str:
        return (self.root / f"job-{job}" / "script.sh").read_text()

    def log(self, job: str) -> str:
        return (self.folder / "slurm" / f"{job}_0_log.out").read_text()

    def until(self, condition, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited too long"
            time.sleep(0.05)

    def wait(self, job: str, seconds: float = 60) -> dict:
        """The state that a job ends in."""
        self.until(lambda: self.state(job)["state"] in ENDED, seconds)
        return self.state(job)

    def called(self, call: str) -> bool:
        return (self.folder / f"call-{call}").exists() and (self.folder / f"call-{call}").stat().st_size > 0

    def end(self) -> None:
        for job in self.root.glob("job-*"):
            name = job.name.removeprefix("job-")
            if self.state(name)["state"] not in ENDED:
                subprocess.run(["scancel", name], check=True)
                self.wait(name)


# what is asked of the cluster


def test_every_option_reaches_the_job_script(cluster):
    options = slurm_options(
        "slurm", ["mail-type=END", "exclusive"], nodes=1, gpus_per_node=3, minutes=90, partition="gpu", account="lab",
        qos="high", mem_gb=7.5, cpus_per_task=6,
    )  # fmt: skip
    (row,) = submit([("tiny", ["true"])], cluster.folder, options)
    script = cluster.script(row["job"])
    for line in (
        "--nodes=1", "--gpus-per-node=3", "--ntasks-per-node=3", "--time=90", "--partition=gpu", "--account=lab",
        "--qos=high", "--mem=7680M", "--cpus-per-task=6", "--mail-type=END", "--exclusive", "--requeue",
        "--signal=USR2@120", "--job-name=gen-tiny", "--open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in script
    assert "--kill-on-bad-exit=0 --cpus-per-task=6" in script  # srun's own
    cluster.wait(row["job"])


@pytest.mark.parametrize(
    ("launcher", "more", "given", "message"),
    [
        ("local", None, {"gpus_per_node": 2}, "--gpus-per-node is for jobs of a cluster: add --launcher slurm"),
        ("local", None, {"minutes": 2}, "--time is for jobs of a cluster"),
        ("local", ["a=b"], {}, "--slurm is for jobs of a cluster"),
        ("slurm", ["output=x"], {}, "'output' is set by the launcher itself"),
        ("slurm", ["mail type=x"], {}, "expected KEY=VALUE"),
        ("slurm", ["a=b\n#SBATCH --c"], {}, "expected KEY=VALUE"),
        ("slurm", None, {"minutes": 2}, "--time 2: at least 3 minutes"),
    ],
)
def test_options_that_cannot_be_are_refused(launcher, more, given, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        slurm_options(launcher, more, **given)


def test_without_options_a_run_stays_here():
    assert slurm_options("local", None, nodes=None, minutes=None) is None


def test_a_machine_without_slurm_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="no `sbatch` here"):
        submit([("a", ["true"])], tmp_path, SlurmOptions())


def test_what_sbatch_refuses_is_told_in_one_line(cluster):
    with pytest.raises(RunError, match="sbatch did not take the job: .*invalid partition specified: nowhere"):
        submit([("a", ["true"])], cluster.folder, SlurmOptions(partition="nowhere"))


# what a task is told


def test_ranks_are_named_as_torchrun_names_them():
    slurm = {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "SLURM_JOB_NUM_NODES": "2"}
    assert rank_environment({**slurm, "SLURM_JOB_ID": "20003"}, "node-a") == {
        "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "node-a",
        "MASTER_PORT": "12003",
    }  # fmt: skip


def test_all_tasks_of_a_job_meet_at_one_address(cluster):
    job = cluster.submit("0", nodes=2, gpus_per_node=2)
    assert cluster.wait(job)["state"] == "COMPLETED"
    told = [json.loads((cluster.folder / f"call-{rank}-0").read_text()) for rank in range(4)]
    assert [t["RANK"] for t in told] == ["0", "1", "2", "3"] and [t["LOCAL_RANK"] for t in told] == ["0", "1"] * 2
    assert {(t["WORLD_SIZE"], t["LOCAL_WORLD_SIZE"], t["MASTER_ADDR"]) for t in told} == {("4", "2", "localhost")}
    assert len({t["MASTER_PORT"] for t in told}) == 1


# how a job ends


def test_at_the_end_of_its_time_a_job_is_put_back_and_goes_on(cluster):
    job = cluster.submit("stops", nodes=1, gpus_per_node=2, signal_s=50)
    cluster.until(lambda: cluster.called("0-0") and cluster.called("1-0"))
    (cluster.root / "over").touch()
    end = cluster.wait(job)
    assert (end["state"], end["code"], end["restarts"]) == ("COMPLETED", 0, 1)
    assert cluster.called("0-1") and cluster.called("1-1")  # both ranks were started again
    log = cluster.log(job)
    assert log.index("call 0 of rank 0") < log.index("goes back into the queue (1 of") < log.index("call 1 of rank 0")


def test_a_run_that_fails_fails_the_job_with_its_code(cluster):
    job = cluster.submit("5", nodes=1, gpus_per_node=3)
    end = cluster.wait(job)
    assert (end["state"], end["code"], end["restarts"]) == ("FAILED", 5, 0)


def test_a_cancelled_run_may_stop_and_is_not_put_back(cluster):
    job = cluster.submit("never")
    cluster.until(lambda: cluster.called("0-0"))
    subprocess.run(["scancel", job], check=True)
    end = cluster.wait(job)
    assert (end["state"], end["code"], end["restarts"]) == ("CANCELLED", 75, 0)
    assert "ended by SIGTERM: not put back" in cluster.log(job)


def test_a_run_that_does_not_stop_in_time_is_killed_and_put_back(cluster):
    job = cluster.submit("deaf", signal_s=MARGIN_S + 1)
    cluster.until(lambda: cluster.called("0-0"))
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    end = cluster.wait(job)
    assert (end["state"], end["restarts"]) == ("COMPLETED", 1)
    assert "did not stop in time and is killed" in cluster.log(job)


def test_a_run_is_put_back_only_so_often(cluster):
    job = cluster.submit("75", requeues=2)
    end = cluster.wait(job)
    assert (end["state"], end["code"], end["restarts"]) == ("FAILED", 75, 2)
    assert "put back 2 times already" in cluster.log(job)


# whole runs

SHORT = (
    "codec.fit.steps=30", "codec.fit.checkpoint_every=2", "codec.fit.validate_every=100", "dataset.subjects=12",
)  # fmt: skip


@pytest.mark.slow
def test_a_run_that_was_put_back_equals_one_that_was_not(cluster, gen):
    words = ["--until", "fit.codec", "--device", "cpu", *(w for s in SHORT for w in ("--set", s))]
    there, here = cluster.folder / "there" / "run", cluster.folder / "here" / "run"  # apart: brothers share steps
    queued = gen("run", "tiny", *words, "--out", there, "--launcher", "slurm", "--gpus-per-node", "0", "--json")
    assert queued.exit_code == 0, queued.stderr
    (row,) = json.loads(queued.stdout)["jobs"]
    job = row["job"]
    cluster.until(lambda: any((there / "steps" / "fit.codec").glob("checkpoints/step-*")), 120)
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    cluster.until(lambda: cluster.state(job)["restarts"] == 1 or cluster.state(job)["state"] in ENDED)
    assert cluster.state(job)["restarts"] == 1, "it was done before it could be stopped"
    assert gen("run", "tiny", *words, "--out", here).exit_code == 0
    assert cluster.wait(job, 120)["state"] == "COMPLETED", Path(row["log"]).read_text()
    weights = [f / "steps" / "fit.codec" / "weights.safetensors" for f in (here, there)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert json.loads((there / "steps" / "fit.codec" / "cost.json").read_text())["attempts"] == 2


@pytest.mark.slow
def test_a_sweep_is_queued_as_an_array_of_its_children(cluster, gen):
    out = cluster.folder / "sweep"
    words = ["--grid", "codec.width=4,8", "--until", "prepare", "--set", "dataset.subjects=8", "--max-parallel", "2"]
    queued = gen("sweep", "tiny", *words, "--out", out, "--launcher", "slurm", "--gpus-per-node", "0", "--json")
    assert queued.exit_code == 0, queued.stderr
    jobs = json.loads(queued.stdout)["jobs"]
    assert [(row["name"], row["job"].partition("_")[2]) for row in jobs] == [("width4", "0"), ("width8", "1")]
    assert "--array=0-1%2" in cluster.script(jobs[0]["job"])
    for row in jobs:
        assert cluster.wait(row["job"], 120)["state"] == "COMPLETED", Path(row["log"]).read_text()
        assert (out / row["name"] / "steps" / "prepare" / "done.json").exists()


def test_what_cannot_be_queued_is_refused_before_anything_is(cluster, gen):
    words = ["--launcher", "slurm", "--out", cluster.folder / "run"]
    redo = gen("run", "tiny", *words, "--from", "sample")
    assert redo.exit_code == 2 and "would start over each time" in redo.stderr
    wrong = gen("run", "tiny", *words, "--set", "codec.widht=3")
    assert wrong.exit_code == 2 and "codec.widht" in wrong.stderr
    assert not list(cluster.root.glob("job-*"))


def test_people_are_told_how_to_follow(cluster, gen):
    queued = gen("run", "tiny", "--until", "prepare", "--out", cluster.folder / "run", "--launcher", "slurm", "--slurm",
                 "partition=a")  # fmt: skip
    assert queued.exit_code == 0, queued.stderr
    assert "job 1000: tiny, log " in queued.stdout and "squeue -j 1000" in queued.stdout
    assert "scancel 1000" in queued.stdout
    assert "#SBATCH --partition=a\n" in cluster.script("1000")
    subprocess.run(["scancel", "1000"], check=True)
