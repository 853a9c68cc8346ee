"""The work of each step. A step writes into its folder and returns what `done.json` should record.

Of several processes the first does all steps; it calls the others to those they can share, by the step's name. They run
the same function then, and leave the writing to the first, but for the samples that they draw.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gen_core.run.context import RunContext
from gen_core.run.graph import StepSpec
from gen_core.run.steps.encode import encode
from gen_core.run.steps.evaluate import evaluate
from gen_core.run.steps.fit import fit_table
from gen_core.run.steps.prepare import prepare
from gen_core.run.steps.reject import reject
from gen_core.run.steps.report import report
from gen_core.run.steps.sample import sample

Work = Callable[[RunContext, StepSpec, Path], dict[str, Any]]

WORK: dict[str, Work] = {
    "prepare": prepare,
    "encode": encode,
    "sample": sample,
    "reject": reject,
    "evaluate": evaluate,
    "report": report,
}


def work_of(step: StepSpec) -> Work:
    """The function that does a step."""
    return fit_table if step.table else WORK[step.name]
