"""`gen doctor`: what this machine has, and what is missing for which part."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gen_cli.arguments import Debug, Json
from gen_cli.show import as_json, table

NEEDED = (
    "torch",
    "numpy",
    "scipy",
    "safetensors",
    "matplotlib",
    "jinja2",
    "attrs",
    "cattrs",
    "pluggy",
)
OPTIONAL = {
    "h5py": "HDF5 files (extra `hyper`)",
    "faiss": "faster exact neighbours (extra `fast`)",
    "hnswlib": "neighbours among millions of volumes (extra `fast`)",
    "tensorboard": "curves in TensorBoard (extra `track`)",
    "wandb": "curves in Weights & Biases (extra `wandb`)",
    "mlflow": "curves in MLflow (extra `mlflow`)",
}
TROUBLE = ("torchvision", "torchaudio")  # a wheel for another torch breaks imports of other libraries
MIN_PYTHON, MIN_TORCH = (3, 11), (2, 11)
MIN_DISK_GB = 2.0


def doctor(
    full: Annotated[bool, typer.Option("--full", help="Import torch too: devices and threads.")] = False,
    json_: Json = False,
    debug: Debug = False,
) -> None:
    """Check Python, torch, extras, plugins, disk, memory and compiler; exit 3 when something needed is missing."""
    rows = [*_python(), *_packages(), *_plugins(), *_machine()]
    if full:
        rows += _torch()
    as_json(rows) if json_ else table(rows, ["status", "check", "found"])
    if any(row["status"] == "missing" for row in rows):
        raise typer.Exit(3)


def _row(check: str, status: str, found: str) -> dict[str, Any]:
    return {"check": check, "status": status, "found": found}


def _python() -> list[dict[str, Any]]:
    import platform

    good = sys.version_info >= MIN_PYTHON
    wanted = "" if good else f"; {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or later is needed"
    return [_row("python", "ok" if good else "missing", platform.python_version() + wanted)]


def _version(package: str) -> str | None:
    """The installed version, read without importing the package."""
    from importlib import metadata, util

    names = {"jinja2": "Jinja2", "faiss": "faiss-cpu"}
    try:
        return metadata.version(names.get(package, package))
    except metadata.PackageNotFoundError:
        return "installed" if util.find_spec(package) else None


def _packages() -> list[dict[str, Any]]:
    rows = []
    for package in NEEDED:
        version = _version(package)
        status, found = ("ok", version) if version else ("missing", f"not installed: pip install {package}")
        if package == "torch" and version and _numbers(version) < MIN_TORCH:
            status, found = "missing", f"{version}; {MIN_TORCH[0]}.{MIN_TORCH[1]} or later is needed"
        rows.append(_row(package, status, found))
    for package, use in OPTIONAL.items():
        version = _version(package)
        rows.append(_row(package, "ok" if version else "absent", f"{version or 'not installed'}: {use}"))
    for package in TROUBLE:
        version = _version(package)
        if version:
            note = "not used here; if it was made for another torch it breaks other libraries' imports"
            rows.append(_row(package, "note", f"{version}: {note}"))
    return rows


def _numbers(version: str) -> tuple[int, ...]:
    found = []
    for part in version.split("+")[0].split(".")[:2]:
        digits = "".join(c for c in part if c.isdigit())
        found.append(int(digits or 0))
    return tuple(found)


def _plugins() -> list[dict[str, Any]]:
    from gen_core.registry import Registry

    registry = Registry.load()
    rows = [_row("plugins", "ok", f"{len(registry.components)} components")]
    rows.append(_row("plugins let in", "ok", str(registry.allow)))
    for note in registry.notes:
        if note.status in ("off", "absent"):
            rows.append(_row(f"plugin {note.plugin}".removesuffix(" GEN_PLUGINS"), "note", note.problem))
    return rows + [_row("plugin", "problem", line) for line in registry.problems]


def _machine() -> list[dict[str, Any]]:
    import shutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = [_row("cores", "ok", str(cores))]
    try:
        gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        rows.append(_row("memory", "ok", f"{gib:.1f} GiB"))
    except (ValueError, OSError, AttributeError):
        rows.append(_row("memory", "note", "unknown on this system"))
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    rows.append(_row("disk", "ok" if free >= MIN_DISK_GB else "note", f"{free:.1f} GB free in {Path.cwd()}"))
    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    found = compiler or "none: needed only by torch.compile"
    rows.append(_row("compiler", "ok" if compiler else "absent", found))
    return rows


def _torch() -> list[dict[str, Any]]:
    import torch

    rows = [_row("torch threads", "ok", str(torch.get_num_threads()))]
    if torch.cuda.is_available():
        for k in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(k)
            rows.append(_row(f"cuda:{k}", "ok", f"{p.name}, {p.total_memory / 2**30:.0f} GiB"))
    else:
        rows.append(_row("cuda", "absent", "no GPU found: everything runs on the CPU"))
    return rows
