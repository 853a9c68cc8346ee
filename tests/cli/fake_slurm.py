"""A Slurm cluster of one machine, for tests: run under the name of a Slurm command, it does what that command does.

`sbatch` takes a script and lets a daemon run it; `srun` starts the tasks; `scancel` signals or ends a job; `scontrol
requeue` puts it back; `squeue` and `sacct` tell its state. When a file `over` appears in the folder FAKE_SLURM, a job
gets the signal it asked for by `--signal`, and is killed after the seconds it named. As on real clusters, signals go to
every process of the job, none of them outlives it, and a job ends with the code of its script. State lies there too,
a folder a job.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["FAKE_SLURM"])
HOST = "localhost"


def read(job: Path) -> dict:
    return json.loads((job / "state.json").read_text())


def write(job: Path, **changes) -> None:
    state = read(job) if (job / "state.json").exists() else {}
    beside = job / f".state-{os.getpid()}"
    beside.write_text(json.dumps(state | changes))
    beside.replace(job / "state.json")


def options(script: str) -> dict[str, str]:
    found = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH --"):
            key, _, value = shlex.split(line.removeprefix("#SBATCH --"))[0].partition("=")
            found[key] = value
    return found


def sbatch() -> int:
    script = Path(sys.argv[-1]).read_text()
    asked = options(script)
    if asked.get("partition") == "nowhere":
        print("sbatch: error: invalid partition specified: nowhere", file=sys.stderr)
        return 1
    with (ROOT / "lock").open("w"):
        number = 1000 + len(list(ROOT.glob("job-*")))
    last = int(asked["array"].partition("%")[0].partition("-")[2]) if "array" in asked else None
    for task in range((last or 0) + 1):
        job = ROOT / (f"job-{number}" if last is None else f"job-{number}_{task}")
        job.mkdir()
        (job / "script.sh").write_text(script)
        (job / "script.sh").chmod(0o755)
        write(job, state="PENDING", options=asked, restarts=0, requeue=False, number=number, task=task, array=last)
        daemon = [sys.executable, __file__, "daemon", str(job)]
        with (job / "daemon.log").open("w") as said:  # our own streams would keep the caller waiting
            subprocess.Popen(daemon, start_new_session=True, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    print(f"Submitted batch job {number}")
    return 0


def daemon(job: Path) -> None:
    """Runs a job until it ends and nobody wants it again."""
    while True:
        state = read(job)
        code = once(job, state)
        again = read(job)
        if not again["requeue"]:
            word = "COMPLETED" if code == 0 else "CANCELLED" if again.get("cancelled") else "FAILED"
            write(job, state="TIMEOUT" if again.get("timeout") else word, code=code)
            return
        write(job, state="PENDING", requeue=False, restarts=state["restarts"] + 1)


def once(job: Path, state: dict) -> int:
    asked = state["options"]
    nodes, per_node = int(asked.get("nodes", 1)), int(asked.get("ntasks-per-node", 1))
    array = {}
    if state["array"] is not None:
        array = {"SLURM_ARRAY_JOB_ID": str(state["number"]), "SLURM_ARRAY_TASK_ID": str(state["task"])}
    environment = {
        **os.environ,
        **array,
        "SLURM_JOB_ID": str(state["number"] + (state["task"] if array else 0)),
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_JOB_NODELIST": HOST,
        "SLURM_NTASKS": str(nodes * per_node),
        "SLURM_RESTART_COUNT": str(state["restarts"]),
        "FAKE_SLURM_JOB": str(job),
    }
    name = asked["output"].replace("%j", str(state["number"])).replace("%A", str(state["number"]))
    with open(name.replace("%a", str(state["task"])), "a") as log:
        script = subprocess.Popen(
            [str(job / "script.sh")], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    write(job, state="RUNNING", pid=script.pid)
    told, seconds = re.fullmatch(r"(\w+)@(\d+)", asked["signal"]).groups()
    over, signalled = Path(os.environ["FAKE_SLURM"]) / "over", None
    while script.poll() is None:
        time.sleep(0.05)
        now = time.monotonic()
        if signalled is None and over.exists():
            over.unlink()
            signalled = now
            tell(job, getattr(signal, f"SIG{told}"))
        if signalled is not None and now > signalled + float(seconds):
            write(job, timeout=True)
            kill(script.pid)
        if read(job)["requeue"] or read(job).get("cancelled"):
            kill(script.pid, grace=3.0)
    return script.returncode


def processes(session: int) -> list[int]:
    """Every process of a session, but for the job's shell: a cluster's daemon holds them in one group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def tell(job: Path, number: int) -> None:
    pid = read(job)["pid"]
    srun = Path(os.environ["FAKE_SLURM_BIN"]) / "srun"
    for process in processes(pid):
        words = Path(f"/proc/{process}/cmdline")
        # neither the shell of the script nor srun is signalled: the job's tasks are
        if process != pid and words.exists() and str(srun).encode() not in words.read_bytes():
            os.kill(process, number)


def kill(session: int, grace: float = 0.0) -> None:
    """End every process of a job: asked first, where there is grace."""
    end = time.monotonic() + grace
    while time.monotonic() < end and processes(session):
        time.sleep(0.05)
    for process in processes(session):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def srun() -> int:
    words = sys.argv[1:]
    ours: dict[str, str] = {}
    while words[0].startswith("--"):
        key, _, value = words.pop(0).removeprefix("--").partition("=")
        ours[key] = value or (words.pop(0) if key in ("output", "error") else "")
    tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_JOB_NUM_NODES"])
    running = []
    number = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
    for rank in range(tasks):
        name = ours["output"].replace("%j", number).replace("%A", number).replace("%t", str(rank))
        name = name.replace("%a", os.environ.get("SLURM_ARRAY_TASK_ID", ""))
        environment = {
            **os.environ,
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank % (tasks // nodes)),
            "SLURM_NODEID": str(rank // (tasks // nodes)),
        }
        with open(name, "a") as log:
            running.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
    worst = 0
    while running:
        time.sleep(0.02)
        for process in [p for p in running if p.poll() is not None]:
            running.remove(process)
            worst = max(worst, process.returncode if process.returncode >= 0 else 128 - process.returncode)
            if process.returncode and ours.get("kill-on-bad-exit") == "1":
                for other in running:
                    other.kill()
    return worst


def scontrol() -> int:
    """scontrol requeue JOB"""
    job = ROOT / f"job-{sys.argv[2]}"
    if sys.argv[1] != "requeue" or not job.is_dir() or "requeue" not in read(job)["options"]:
        print("scontrol: error: cannot requeue", file=sys.stderr)
        return 1
    write(job, requeue=True)
    return 0


def scancel() -> int:
    """scancel [--signal NAME] JOB"""
    words = [w for w in sys.argv[1:] if not w.startswith("--signal")]
    named = [w.partition("=")[2] for w in sys.argv[1:] if w.startswith("--signal=")]
    for job in sorted(ROOT.glob(f"job-{words[0]}")) + sorted(ROOT.glob(f"job-{words[0]}_*")):
        if "pid" not in read(job):
            continue
        tell(job, getattr(signal, f"SIG{named[0]}") if named else signal.SIGTERM)
        if not named:
            write(job, cancelled=True)
    return 0


def squeue() -> int:
    print("JOBID ST")
    for job in sorted(ROOT.glob("job-*")):
        if read(job)["state"] in ("PENDING", "RUNNING"):
            print(job.name.removeprefix("job-"), read(job)["state"])
    return 0


def sacct() -> int:
    print("JobID|State|NodeList")
    for job in sorted(ROOT.glob("job-*")):
        print(f"{job.name.removeprefix('job-')}|{read(job)['state']}|{HOST}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["daemon"]:
        daemon(Path(sys.argv[2]))
    else:
        commands = (sbatch, srun, scontrol, scancel, squeue, sacct)
        raise SystemExit({c.__name__: c for c in commands}[Path(sys.argv[0]).name]())
