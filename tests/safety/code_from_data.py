"""Finds the places where a program could run code that came with data: names resolved through their imports.

A name is followed to what it was imported as, whether it is called, passed on or kept: `from os import system as run`
is found as os.system. What reads pickles, evaluates text, loads libraries, opens shells or unpacks archives to paths
that the archive chooses is a finding; so is a reader that may unpickle and is not told in plain words not to, and a
reader of images that may start Ghostscript.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

BUILTINS = {"eval", "exec", "compile", "__import__", "execfile"}
MODULES = {
    # whatever of them is used
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle",
    "yaml", "ruamel", "ctypes", "cffi", "runpy", "code", "codeop", "imp", "zipimport", "pdb", "timeit", "submitit",
    "subprocess", "multiprocessing", "concurrent.futures.process", "pty", "xmlrpc", "builtins", "bdb",
}  # fmt: skip
NAMES = {
    "os.system", "os.popen", "os.startfile", "posix.system",
    "importlib.import_module", "importlib.__import__", "importlib.reload", "importlib.util.spec_from_file_location",
    "importlib.util.module_from_spec", "importlib.machinery", "importlib.abc", "pkgutil.resolve_name",
    "types.CodeType", "types.FunctionType", "inspect.getattr_static", "sys.settrace", "site.addsitedir",
    "concurrent.futures.ProcessPoolExecutor", "logging.config",
    "torch.save", "torch.serialization", "torch.package", "torch.hub", "torch.load", "torch.jit.load",
    "torch.export.load",
    "torch.ops.load_library", "torch.classes.load_library", "torch.utils.cpp_extension",
    "torch.distributed.checkpoint", "torch.distributed.rpc",
    "numpy.DataSource", "numpy.ctypeslib", "numpy.f2py", "pandas.read_pickle", "pandas.eval", "scipy.weave",
    "jinja2.Template", "sympy.sympify", "sympy.parsing", "tarfile.open", "shutil.unpack_archive",
    "matplotlib.image.imread", "matplotlib.pyplot.imread", "imageio", "PIL.EpsImagePlugin",
}  # fmt: skip
OBJECTS = {"send_object_list", "recv_object_list", "all_gather_object", "gather_object", "broadcast_object_list",
           "scatter_object_list"}  # fmt: skip
METHODS = {"extractall", "exec_module", "load_module", "from_string", "fromstring_module", "eval_js", "load_extension"}
PROGRAMS = ("os.exec", "os.spawn", "os.posix_spawn", "os.forkpty")  # and what their names go on with
UNPICKLE = {"numpy.load": "allow_pickle", "numpy.lib.format.read_array": "allow_pickle",
            "numpy.lib.npyio.NpzFile": "allow_pickle", "numpy.save": "allow_pickle",
            "numpy.lib.format.write_array": "allow_pickle"}  # fmt: skip


def findings(source: str) -> Iterator[tuple[int, str]]:
    """(line, what) of every place in a module's source that could run code from data."""
    tree = ast.parse(source)
    known = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            name = known.get(node.id, node.id)
            if node.id not in known and node.id in BUILTINS:
                yield node.lineno, node.id
            elif name != node.id and _bad(name):  # `import x` alone was told at the import
                yield node.lineno, _module(name) or name
        elif isinstance(node, ast.Attribute):
            name = _dotted(node, known)
            if name and _bad(name):
                yield node.lineno, _module(name) or name
            elif node.attr in METHODS | OBJECTS or node.attr in ("__globals__", "__builtins__", "__subclasses__"):
                yield node.lineno, f".{node.attr}"
        if isinstance(node, ast.Call):
            yield from _calls(node, _dotted(node.func, known) or "")


def _imported(tree: ast.AST) -> dict[str, str]:
    """Local name -> the dotted name that it was imported as."""
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return known


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
        module = _module(name)
        if module:
            yield node.lineno, module
        elif _bad(name):
            yield node.lineno, name


def _module(name: str) -> str:
    """The forbidden module that a dotted name lies in, or ""."""
    parts = name.split(".")
    return next((m for n in range(1, len(parts) + 1) if (m := ".".join(parts[:n])) in MODULES), "")


def _bad(name: str) -> bool:
    parts = name.split(".")
    inside = any(".".join(parts[:n]) in NAMES for n in range(1, len(parts) + 1))
    return inside or (len(parts) > 1 and bool(_module(name))) or name.startswith(PROGRAMS)


def _dotted(node: ast.AST, known: dict[str, str]) -> str:
    """The dotted name of an expression, its first part as it was imported; "" where it has none."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or (parts and node.id not in known):
        return ""
    return ".".join([known.get(node.id, node.id), *reversed(parts)])


def _calls(node: ast.Call, name: str) -> Iterator[tuple[int, str]]:
    given = {k.arg: k.value for k in node.keywords}
    if None in given and name in UNPICKLE:
        yield node.lineno, f"{name}(**...)"
    if name == "PIL.Image.open" and "formats" not in given:
        yield node.lineno, "PIL.Image.open of any format"  # EPS goes to Ghostscript, whatever the file is called
    for word in ("shell", "allow_pickle"):
        if word in given and not _is(given[word], False):
            yield node.lineno, f"{word}={ast.unparse(given[word])}"
    if name in UNPICKLE and len(node.args) > 2:  # allow_pickle by place
        yield node.lineno, f"{name} with {UNPICKLE[name]} by place"
    if name in ("getattr", "setattr") and node.args and isinstance(node.args[0], ast.Name):
        if len(node.args) > 1 and node.args[0].id in ("builtins", "__builtins__", "os", "importlib", "sys"):
            yield node.lineno, f"{name}({node.args[0].id}, ...)"


def _is(node: ast.AST, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
