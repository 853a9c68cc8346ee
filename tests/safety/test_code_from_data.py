"""Nothing that ships can run code that came with data: every module is read, and the few exceptions are named."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "plugins", "cli")

_spec = importlib.util.spec_from_file_location("code_from_data", Path(__file__).with_name("code_from_data.py"))
code_from_data = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(code_from_data)

OWN_JOBS = "submitit pickles its own job into the run's folder: who may write there acts as the user already"
ALLOWED = {
    # (file, what it uses): why it is no code from data
    ("core/gen_core/component.py", "importlib.import_module"): "what a plugin registered, never a recipe's text",
    ("core/gen_core/offers.py", "importlib.import_module"): "the modules that installed entry points name",
    ("core/gen_core/plugin_probe.py", "subprocess"): "this python on a constant program, to load a plugin; no shell",
    ("core/gen_core/run/studies/children.py", "subprocess"): "`python -m gen_cli.main`, arguments as a list",
    ("core/gen_core/run/tracking/beside.py", "subprocess"): "this python on a constant program, no shell",
    ("core/gen_core/rendered_cache.py", "multiprocessing"): "workers that render phantoms, with our arguments",
    ("plugins/gen_hyperspectral/containers/hdf5/library.py", "subprocess"): "this python on a constant program",
    ("plugins/gen_hyperspectral/cubes/inflate.py", "importlib.import_module"): "one of two constant names",
    ("plugins/gen_hyperspectral/cubes/limits.py", "importlib.import_module"): "names of packages that callers spell",
    ("core/gen_core/engine/memory.py", "ctypes"): "malloc_trim of the C library, by a constant name",
    ("cli/gen_cli/launchers/task.py", "subprocess"): "`gen run` with a list of arguments, no shell",
    ("cli/gen_cli/launchers/task.py", "submitit"): OWN_JOBS,
    ("cli/gen_cli/launchers/slurm.py", "submitit"): OWN_JOBS,
}  # fmt: skip


@functools.cache
def found() -> dict[tuple[str, str], list[int]]:
    rows: dict[tuple[str, str], list[int]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for line, what in code_from_data.findings(path.read_text()):
                rows.setdefault((path.relative_to(ROOT).as_posix(), what), []).append(line)
    return rows


def test_no_module_can_run_code_from_data_but_where_it_is_said_why():
    strangers = {key: lines for key, lines in found().items() if key not in ALLOWED}
    assert strangers == {}, (
        "file and what it uses: lines; write data as JSON or safetensors, or add a row with a reason"
    )


def test_every_exception_is_still_needed():
    assert sorted(set(ALLOWED) - set(found())) == []


PLANTED = [
    ("eval(header['size'])", "eval"),
    ("exec(text)", "exec"),
    ("run = eval\nrun(text)", "eval"),
    ("compile(text, 'x', 'exec')", "compile"),
    ("__import__(name)", "__import__"),
    ("import pickle", "pickle"),
    ("from pickle import loads as read", "pickle"),
    ("def f(p):\n    import dill\n    return dill.load(p)", "dill"),
    ("import marshal", "marshal"),
    ("import shelve", "shelve"),
    ("import joblib", "joblib"),
    ("import yaml\nyaml.load(text)", "yaml"),
    ("import ctypes\nctypes.CDLL(path)", "ctypes"),
    ("from ctypes import cdll", "ctypes"),
    ("import torch\ntorch.load(path)", "torch.load"),
    ("import torch as t\nt.load(path, weights_only=False)", "torch.load"),
    ("from torch import load as read\nread(path)", "torch.load"),
    ("import torch.serialization", "torch.serialization"),
    ("import torch\ntorch.hub.load('a/b', 'c')", "torch.hub.load"),
    ("import torch\ntorch.jit.load(path)", "torch.jit.load"),
    ("import torch\ntorch.ops.load_library(path)", "torch.ops.load_library"),
    ("import torch.distributed as dist\ndist.broadcast_object_list(x)", ".broadcast_object_list"),
    ("import numpy as np\nnp.load(path, allow_pickle=True)", "allow_pickle=True"),
    ("import numpy as np\nnp.load(path, None, True)", "numpy.load with allow_pickle by place"),
    ("import numpy as np\nnp.load(path, **options)", "numpy.load(**...)"),
    ("import subprocess\nsubprocess.run(f'ls {path}', shell=True)", "shell=True"),
    ("from subprocess import run", "subprocess"),
    ("import os\nos.system('ls ' + path)", "os.system"),
    ("from os import system as go\ngo(path)", "os.system"),
    ("import os\nos.execvp(path, [])", "os.execvp"),
    ("import os\nos.popen(path)", "os.popen"),
    ("import importlib\nimportlib.import_module(recipe['use'])", "importlib.import_module"),
    ("from importlib import import_module", "importlib.import_module"),
    ("import importlib.util as u\nu.spec_from_file_location('x', path)", "importlib.util.spec_from_file_location"),
    ("spec.loader.exec_module(module)", ".exec_module"),
    ("import runpy\nrunpy.run_path(path)", "runpy"),
    ("import builtins\ngetattr(builtins, name)(text)", "builtins"),
    ("import os\ngetattr(os, name)(text)", "getattr(os, ...)"),
    ("f.__globals__['x']", ".__globals__"),
    ("from concurrent.futures import ProcessPoolExecutor", "concurrent.futures.ProcessPoolExecutor"),
    ("import tarfile\ntarfile.open(path).extractall(folder)", ".extractall"),
    ("import zipfile\nzipfile.ZipFile(path).extractall(folder)", ".extractall"),
    ("import jinja2\njinja2.Template(text).render()", "jinja2.Template"),
    ("environment.from_string(text)", ".from_string"),
    ("import pandas as pd\npd.read_pickle(path)", "pandas.read_pickle"),
    ("from PIL import Image\nImage.open(path)", "PIL.Image.open of any format"),
    ("import matplotlib.image\nmatplotlib.image.imread(path)", "matplotlib.image.imread"),
]


@pytest.mark.parametrize(("source", "what"), PLANTED)
def test_a_planted_example_is_found(source, what):
    assert what in {name for _, name in code_from_data.findings(source)}


def test_what_only_looks_like_it_is_let_through():
    source = (
        "import re, numpy as np, pickletools, safetensors.torch, json, ast, copy, os, torch\n"
        "from gen_core.engine import checkpoint\n"
        "re.compile('x'); model.eval(); np.load(path, allow_pickle=False); np.load(path, mmap_mode='r')\n"
        "pickletools.genops(stream); safetensors.torch.load(data); json.loads(text); ast.literal_eval(text)\n"
        "copy.deepcopy(x); os.path.exists(path); getattr(options, name); torch.compile(model); torch.ops.aten.silu(x)\n"
        "from PIL import Image\nImage.open(path, formats=('PNG',))\n"
        "component.load(path); self.compile(x); code = 3; checkpoint.load(path)\n"
    )
    assert list(code_from_data.findings(source)) == []
