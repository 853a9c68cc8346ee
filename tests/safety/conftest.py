"""The helpers that lie beside these tests, as fixtures."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def strangers() -> ModuleType:
    return _beside("strangers")


@pytest.fixture(scope="session")
def command():
    """command(site, *words, seconds=6, **environment): `gen words` in a fresh python that finds the folder `site`.

    seconds: how long a plugin may take to load.
    """

    def run(site: Path | None, *words: object, seconds: float = 6.0, cwd: Path | None = None, **environment: str):
        program = (
            "import sys; from gen_core import plugin_probe; from gen_cli.main import main; "
            f"plugin_probe.SECONDS = {seconds}; sys.argv = ['gen', *sys.argv[1:]]; main()"
        )
        env = {k: v for k, v in os.environ.items() if k not in ("GEN_PLUGINS", "PYTHONPATH")}
        env |= {"OMP_NUM_THREADS": "1", **environment}
        if site is not None:
            env["PYTHONPATH"] = str(site)
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, env=env, cwd=cwd
        )

    return run
