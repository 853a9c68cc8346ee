"""Where a run runs: in this process, or as jobs of a Slurm cluster."""
