"""What a job asks of a Slurm cluster."""

from __future__ import annotations

from attrs import Factory, frozen


@frozen
class SlurmOptions:
    """Resources and limits of one job; what is None is left to the cluster's defaults.

    There is one task a GPU, or one a node where `gpus_per_node` is 0. `signal_s`: so long before the end of its time a
    job is told to stop; it must suffice for a checkpoint. `requeues`: how often a job may be put back into the queue.
    `more`: further sbatch options by their long names; True stands for a flag without value.
    """

    nodes: int = 1
    gpus_per_node: int = 1
    minutes: int = 240
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    mem_gb: float | None = None
    cpus_per_task: int | None = None
    signal_s: int = 120
    requeues: int = 100
    more: dict[str, str | bool] = Factory(dict)

    @property
    def tasks_per_node(self) -> int:
        return max(1, self.gpus_per_node)
