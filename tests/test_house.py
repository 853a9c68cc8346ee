"""The house keeps its order: which way imports point, what nobody may call, and what every module carries.

The rules are functions of a module's source, so that each is also shown a module that breaks it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"core": ROOT / "core", "plugins": ROOT / "plugins", "cli": ROOT / "cli"}
FILES = sorted(p for room in ROOMS.values() for p in room.rglob("*.py"))
PLUGINS = sorted(p.name for p in ROOMS["plugins"].iterdir() if (p / "__init__.py").exists())

ORDER = (
    # of core, from the ground up: a module may import what stands before it
    "errors", "atomic", "plain_pickle", "foreign_weights", "tensor_file", "mapped", "volume", "options", "splits",
    "volume_cache", "rendered_cache",
    "share", "condition", "batch", "trainable", "dataset", "cropped", "tiling", "codec", "prior", "conditional_prior",
    "denoising", "paths", "ddpm",
    "sampler", "flow", "metric", "features", "segmenter", "writer", "tracker", "report",
    "hooks", "component", "table_file", "offers", "installed", "plugin_probe", "registry", "inspect", "recipe",
    "engine", "run", "testing",
)  # fmt: skip
RUN = (
    # of core's `run`, likewise: what a run is, its samples, its scores, its steps, who walks them, who asks for runs
    "folder", "fingerprint", "sample_sources", "graph", "conditioning", "context", "latents", "promises", "progress",
    "opening", "smoke", "request", "samples", "scoring", "view", "tracking", "changes", "steps", "cost", "failures",
    "runner", "plan", "listing", "api", "score_folders", "anomaly", "studies",
)  # fmt: skip
LIGHT = (
    "errors",
    "atomic",
    "options",
    "hooks",
    "component",
    "offers",
    "installed",
    "plugin_probe",
    "registry",
    "recipe",
)  # of core: no torch, so that listings are quick
HEAVY = {"torch", "numpy", "scipy"}
PICKLES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNWANTED = {"torchvision", "torchaudio", "torch_fidelity", "lightning", "pytorch_lightning"}
PURPOSELESS = {"util", "utils", "helper", "helpers", "common", "misc", "tools"}


def module_name(path: Path) -> str:
    """core/gen_core/run/folder.py -> gen_core.run.folder"""
    parts = path.relative_to(next(r for r in ROOMS.values() if r in path.parents)).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(p): p for p in FILES}


def imports(source: str, top_only: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, those inside functions too unless `top_only`."""
    tree = ast.parse(source)
    for node in _top(tree) if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "." * node.level + (node.module or "")
            for alias in node.names if not node.level else ():
                full = f"{node.module}.{alias.name}"  # `from gen_core import atomic` imports a module
                yield node.lineno, full if full in NAMES else str(node.module)


def _top(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs on import: not the bodies of functions, not `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _top(node)


def wrong_arrows(module: str, source: str) -> list[str]:
    """Imports that point the wrong way, one line each."""
    package, _, inside = module.partition(".")
    found = []
    for line, name in imports(source):
        target, _, rest = name.partition(".")
        at = f"{module}:{line} imports {name}"
        if target in ROOMS:
            found.append(f"{at}: '{target}' is a folder, not a package; it works only when started from the root")
        elif not target:
            found.append(f"{at}: relative; write the whole name")
        elif target == "gen_cli" and package != "gen_cli":
            found.append(f"{at}: nobody imports the cli")
        elif target in PLUGINS and target != package:
            found.append(f"{at}: a plugin is asked for by name, through core")
        elif target == package == "gen_core" and inside and rest:
            here, there = inside.split("."), rest.split(".")
            order, depth = (RUN, 1) if here[0] == there[0] == "run" and here[1:] and there[1:] else (ORDER, 0)
            one, other = here[depth], there[depth]
            if one in order and other in order and order.index(other) > order.index(one):
                found.append(f"{at}: core is built from the ground up, {other} stands above {one}")
    return found


def forbidden(module: str, source: str) -> list[str]:
    """Calls and imports that nobody may use, one line each."""
    found = []
    for line, name in imports(source):
        top = name.partition(".")[0]
        if top in PICKLES:
            found.append(f"{module}:{line} imports {name}: files may come from strangers")
        if top in UNWANTED:
            found.append(f"{module}:{line} imports {name}: it breaks beside a torch it was not built for")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        call, at = ast.unparse(node.func), f"{module}:{node.lineno}"
        if call in ("eval", "exec", "compile", "__import__"):
            found.append(f"{at} calls {call}")
        if call in ("torch.load", "torch.save", "os.system", "os.popen", "torch.hub.load"):
            found.append(f"{at} calls {call}")
        for keyword in node.keywords:
            value = ast.unparse(keyword.value)
            if keyword.arg == "shell" and value != "False" or keyword.arg == "allow_pickle" and value != "False":
                found.append(f"{at} passes {keyword.arg}={value}")
    return found


def is_light(module: str) -> bool:
    """Whether a module must not import torch, numpy or scipy when it is imported."""
    parts = module.split(".")
    if parts[0] == "gen_core":
        return len(parts) == 1 or parts[1] in LIGHT
    return parts[0] == "gen_cli" or len(parts) == 1 or parts[-1] == "plugin" or parts[-1].endswith("_options")


def heavy_imports(module: str, source: str) -> list[str]:
    """Heavy libraries imported at the top of a light module, and heavy modules of ours."""
    found = []
    for line, name in imports(source, top_only=True):
        if name.partition(".")[0] in HEAVY or (name in NAMES and not is_light(name) and name.startswith("gen_")):
            found.append(f"{module}:{line} imports {name} at the top; listings and recipes must not load it")
    return found


def untidy(path: Path, source: str, at: str = "") -> list[str]:
    """What a module lacks: docstring, future import, a name with a purpose, a bearable length."""
    tree, found, at = ast.parse(source), [], at or path.name
    if path.stem.lower() in PURPOSELESS:
        found.append(f"{at}: a name without a purpose; say what is inside")
    if not ast.get_docstring(tree) and source.strip():  # an empty __init__.py hands nothing on
        found.append(f"{at}: no module docstring")
    lines = source.count("\n")
    if lines > 600:
        found.append(f"{at}: {lines} lines; a module has at most 600")
    if (
        path.name not in ("plugin.py", "__init__.py", "__main__.py")
        and "from __future__ import annotations" not in source
    ):
        found.append(f"{at}: lacks `from __future__ import annotations`")
    return found


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return {name: path.read_text() for name, path in NAMES.items()}


def test_imports_point_from_plugins_and_cli_to_core(sources):
    assert [line for name, source in sources.items() for line in wrong_arrows(name, source)] == []


def test_every_module_of_core_has_its_place_in_the_order():
    inside = {name.split(".")[1] for name in NAMES if name.startswith("gen_core.")}
    assert sorted(inside - set(ORDER)) == [], "add it to ORDER, above what it imports and below what imports it"
    assert sorted(set(ORDER) - inside) == []
    inside = {name.split(".")[2] for name in NAMES if name.startswith("gen_core.run.")}
    assert sorted(inside - set(RUN)) == sorted(set(RUN) - inside) == [], "add it to RUN, likewise"


def test_no_module_imports_itself_in_a_circle(sources):
    graph = {
        name: {to for _, to in imports(source) if to in NAMES and to != name and not name.startswith(to + ".")}
        for name, source in sources.items()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, "circle: " + " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for to in sorted(graph[name]):
                visit(to, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_nobody_unpickles_evaluates_or_opens_a_shell(sources):
    assert [line for name, source in sources.items() for line in forbidden(name, source)] == []


def test_light_modules_import_nothing_heavy(sources):
    assert [line for n, s in sources.items() if is_light(n) for line in heavy_imports(n, s)] == []


def test_every_module_is_tidy(sources):
    assert [line for name, source in sources.items() for line in untidy(NAMES[name], source, name)] == []


def test_every_package_is_typed():
    packages = {p for room in ROOMS.values() for p in room.iterdir() if (p / "__init__.py").exists()}
    assert sorted(p.name for p in packages if not (p / "py.typed").exists()) == []
    assert len(packages) >= 8


def test_every_registered_component_can_be_imported_and_its_options_without_torch():
    code = (
        "import sys, attrs\n"
        "from gen_core.registry import Registry\n"
        "registry = Registry.load(allow='off')\n"
        "found = [c for cs in registry.components.values() for c in cs]\n"
        "for c in found:\n"
        "    try:\n"
        "        cls = c.options_class()\n"
        "        frozen = cls.__setattr__ is attrs.make_class('F', [], frozen=True).__setattr__\n"
        "        if not (attrs.has(cls) and frozen): print(c.kind, c.name, 'options are not frozen attrs')\n"
        "    except Exception as error: print(c.kind, c.name, error)\n"
        "heavy = {'torch', 'numpy', 'scipy'} & set(sys.modules)\n"
        "if heavy: print('options import', sorted(heavy))\n"
        "for c in found:\n"
        "    try: c._resolve(c.builder)\n"
        "    except Exception as error: print(c.kind, c.name, error)\n"
        "for line in registry.problems: print(line)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == ""


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("gen_core.codec", "import core.gen_core", "'core' is a folder"),
        ("gen_codecs.vq", "from plugins.gen_codecs import x", "'plugins' is a folder"),
        ("gen_codecs.vq", "from . import x", "relative"),
        ("gen_core.codec", "import gen_cli.main", "nobody imports the cli"),
        (
            "gen_core.codec",
            "def f():\n    import gen_codecs.plugin",
            "gen_core.codec:2 imports gen_codecs.plugin",
        ),
        ("gen_codecs.vq", "from gen_metrics import plugin", "a plugin is asked for by name"),
        ("gen_cli.main", "from gen_codecs import plugin", "a plugin is asked for by name"),
        ("gen_core.volume", "from gen_core.registry import Registry", "registry stands above volume"),
        ("gen_core.engine.fit", "from gen_core import run", "run stands above engine"),
        ("gen_core.run.samples.store", "from gen_core.run.steps import sample", "steps stands above samples"),
    ],
)
def test_a_wrong_arrow_is_named(module, source, message):
    (line,) = wrong_arrows(module, source)
    assert message in line


def test_right_arrows_are_right():
    source = "import torch\nfrom gen_core import atomic, __version__\nfrom gen_core.errors import DataError"
    assert wrong_arrows("gen_codecs.vq", source) == wrong_arrows("gen_core.engine.fit", source) == []
    assert wrong_arrows("gen_codecs.vq", "from gen_codecs.plugin import x") == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torchvision.models",
        "eval('1')",
        "torch.load(path, weights_only=True)",
        "subprocess.run(x, shell=True)",
        "np.load(p, allow_pickle=flag)",
        "os.system('ls')",
    ],
)
def test_a_forbidden_call_is_named(source):
    assert len(forbidden("gen_core.x", source)) == 1


def test_lookalikes_of_forbidden_calls_are_allowed():
    assert forbidden("gen_core.x", "model.eval()\nnp.load(p, allow_pickle=False)\nsafetensors.torch.load(b)") == []


def test_a_heavy_import_is_named_only_at_the_top():
    assert heavy_imports("gen_x.plugin", "import torch.nn")[0].startswith("gen_x.plugin:1 imports torch.nn")
    assert heavy_imports("gen_core.registry", "from gen_core.batch import Batch") != []
    assert heavy_imports("gen_x.plugin", "if True:\n    import numpy") != []
    assert heavy_imports("gen_x.plugin", "def f():\n    import torch") == []
    assert heavy_imports("gen_x.plugin", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch") == []


def test_an_untidy_module_is_named():
    assert len(untidy(Path("utils.py"), "x = 1\n" * 601)) == 4
    assert untidy(Path("plugin.py"), '"""Doc."""\n') == untidy(Path("__init__.py"), "") == []
