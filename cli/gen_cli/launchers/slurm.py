"""Runs as jobs of a Slurm cluster, through submitit.

submitit writes a job script and carries our `Task` to the nodes as a file of its own beside the logs; both lie in the
run's folder, which all nodes must see.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gen_cli.launchers.slurm_options import SlurmOptions
from gen_cli.launchers.task import Task
from gen_core.errors import MissingError, RunError, UsageError

LOGS = "slurm"  # folder of job scripts and logs, inside the run's or the sweep's


def submit(
    runs: Sequence[tuple[str, list[str]]], folder: Path, options: SlurmOptions, at_once: int = 256
) -> list[dict[str, Any]]:
    """Queue runs, (name, words) each: one as a job, several as an array of which `at_once` work at the same time.

    Returns a row a run: name, job, log. Raises: MissingError without submitit or Slurm; UsageError for options
    that nobody knows; RunError when the cluster refuses the job.
    """
    executor = _executor(folder / LOGS)
    import submitit

    names = [name for name, _ in runs]
    try:
        executor.update_parameters(**_parameters(names, options, at_once))
        jobs = executor.submit_array([Task(words, options.signal_s, options.requeues) for _, words in runs])
    except ValueError as error:
        raise UsageError(str(error).splitlines()[0]) from error
    except (submitit.core.utils.FailedSubmissionError, submitit.core.utils.FailedJobError, OSError) as error:
        said = " ".join(str(error).split())
        raise RunError(f"sbatch did not take the job: {said[-300:]}") from error
    rows = []
    for name, job in zip(names, jobs):
        log = Path(str(job.paths.stdout).replace("%t", "0"))
        rows.append({"name": name, "job": job.job_id, "log": str(log)})
    return rows


def _executor(logs: Path) -> Any:
    try:
        import submitit
    except ImportError:
        raise MissingError("--launcher slurm needs submitit: pip install 'gen-imaging[slurm]'") from None
    for program in ("sbatch", "srun"):
        if shutil.which(program) is None:
            raise MissingError(f"--launcher slurm: no `{program}` here; run this on a login node of the cluster")
    return submitit.SlurmExecutor(folder=logs)


def _parameters(names: list[str], options: SlurmOptions, at_once: int) -> dict[str, Any]:
    """As submitit's executor wants them."""
    found: dict[str, Any] = {
        "job_name": f"gen-{names[0]}" if len(names) == 1 else f"gen-{len(names)}-runs",
        "nodes": options.nodes,
        "ntasks_per_node": options.tasks_per_node,
        "time": options.minutes,
        "signal_delay_s": options.signal_s,
        "array_parallelism": at_once,
        "stderr_to_stdout": True,
        "srun_args": ["--kill-on-bad-exit=0"],  # ranks end each other themselves, so that the code is theirs
        "additional_parameters": {"requeue": True, **options.more},
        "wckey": None,
    }
    if options.gpus_per_node:
        found["gpus_per_node"] = options.gpus_per_node
    for name in ("partition", "account", "qos", "cpus_per_task"):
        if getattr(options, name) is not None:
            found[name] = getattr(options, name)
    if options.cpus_per_task is not None:
        found["srun_args"].append(f"--cpus-per-task={options.cpus_per_task}")  # srun stopped inheriting it in 22.05
    if options.mem_gb is not None:
        found["mem"] = f"{round(options.mem_gb * 1024)}M"
    return found
