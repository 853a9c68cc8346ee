"""What n samples will take, before they are drawn: chunks, files, disk, and time where this run has measured it.

Nothing is invented: seconds come from the run's own sample step, bytes of a file from its own manifest, and what was
not measured, or was measured under other settings, is said to be unknown.
"""

from __future__ import annotations

import math
from typing import Any

from gen_core.run.folder import RunFolder, read_json
from gen_core.run.samples.outputs import IN_A_FOLDER, MANIFEST
from gen_core.run.samples.sampling import chunks

FLOAT32 = 4


def forecast_samples(
    folder: RunFolder,
    options: Any,
    sampler: str,
    shape: tuple[int, ...],
    *,
    kept: bool,
    latent: tuple[int, ...] = (),
    shard: tuple[int, int] = (1, 1),
) -> dict[str, Any]:
    """The plan of [sample] `options` as JSON.

    shape: (C, D, H, W) of a volume; latent: (c, d, h, w). kept: the run keeps latents and volumes beside the files, as
    `gen run` does and `gen sample` does not.
    Returns: volumes, chunks, files and folders of them, disk_gib by what lies there, seconds_each and hours; `basis`:
    lines that say what the figures rest on. files, seconds_each and hours are None where unknown.
    """
    work = chunks(options.n, options.batch, shard)
    n = sum(min(options.batch, options.n - c * options.batch) for c in work)
    files, size, written = _file(folder, options.format, shape)
    seconds, timed = _seconds(folder, options, sampler, shape)
    disk = {"samples": n * size}
    if kept:
        disk["steps/sample"] = n * FLOAT32 * (math.prod(shape) + math.prod(latent or (0,)))
    plan: dict[str, Any] = {
        "volumes": n,
        "chunks": len(work),
        "batch": options.batch,
        "files": None if files is None else n * files,
        "folders": len({c * options.batch // IN_A_FOLDER for c in work}),
        "disk_gib": {name: round(total / 2**30, 3) for name, total in disk.items()},
        "seconds_each": seconds,
        "hours": None if seconds is None else round(seconds * len(work) * options.batch / 3600, 3),
        "basis": [written, timed, *([] if seconds is None else _memory(folder))],
    }
    if shard != (1, 1):
        plan["shard"] = f"{shard[0]}of{shard[1]}"
    return plan


def _file(folder: RunFolder, format_: str, shape: tuple[int, ...]) -> tuple[int | None, float, str]:
    """(files, bytes) of one sample, and where that is known from."""
    manifest = read_json(folder.path / "samples" / MANIFEST) or {}
    rows = manifest.get("samples") or []
    alike = list(manifest.get("shape", [])) == list(shape)
    if rows and alike and _settings(folder.done("sample") or {}).get("format") == format_:
        files = max(len(row["files"]) for row in rows)
        size = sum(f["bytes"] for row in rows for f in row["files"].values()) / len(rows)
        return files, size, f"disk: {files} files, {size / 2**20:.3g} MiB a sample, as those that this run has drawn"
    size = FLOAT32 * math.prod(shape)
    return None, size, f"disk: {size / 2**20:.3g} MiB a sample, float32; this run has no files of samples to measure"


def _seconds(folder: RunFolder, options: Any, sampler: str, shape: tuple[int, ...]) -> tuple[float | None, str]:
    """Seconds of one sample as this run measured them with the same sampler, steps, batch and guidance."""
    unknown = "time: unknown, "
    cost = folder.cost()
    step = cost.get("steps", {}).get("sample", {})
    done = folder.done("sample") or {}
    if not step.get("volumes") or not done:
        return None, unknown + "this run has drawn no samples yet"
    was, head = _settings(done), done.get("head", {})
    other = [
        f"{name} {before} instead of {now}"
        for name, before, now in (
            ("sampler", head.get("sampler"), sampler),
            ("steps", was.get("steps"), options.steps),
            ("shape", tuple(head.get("shape", ())), tuple(shape)),
            ("batch", was.get("batch"), options.batch),
            ("guidance", was.get("guidance", options.guidance), options.guidance),
            ("precision", was.get("precision"), options.precision),
        )
        if before != now
    ]
    if other:
        return None, unknown + "this run measured " + ", ".join(other)
    seconds = step["seconds"] / step["volumes"]
    machine = cost.get("machine", {})
    where = machine.get("gpu") or f"{machine.get('cpu', 'unknown processor')}, {machine.get('threads', '?')} threads"
    return round(seconds, 6), f"time: {seconds:.4g} s a sample, measured over {step['volumes']} on {where}"


def _memory(folder: RunFolder) -> list[str]:
    """The peaks that this run's sample step measured; they do not grow with the number of samples."""
    step = folder.cost().get("steps", {}).get("sample", {})
    names = {"peak_memory_mb": "memory", "peak_device_memory_mb": "memory of the device"}
    return [
        f"{told}: {step[name]} MiB at most, as measured; any number takes as much"
        for name, told in names.items()
        if name in step
    ]


def _settings(done: dict[str, Any]) -> dict[str, Any]:
    """The [sample] settings that a finished sample step was made with."""
    settings = done.get("settings", {})
    return settings.get("sample", {})


def shape_of(folder: RunFolder) -> tuple[int, ...] | None:
    """(C, D, H, W) of a run's volumes as `prepare` recorded it, or None."""
    spec = (read_json(folder.step("prepare") / "prepared.json") or {}).get("spec")
    return (len(spec["channels"]), *spec["size"]) if spec else None
