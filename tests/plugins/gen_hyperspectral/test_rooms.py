"""The rooms of gen_hyperspectral: which may ask which, so that one can read them from the ground up."""

import ast
from pathlib import Path

import gen_hyperspectral

ROOT = Path(gen_hyperspectral.__file__).parent
MAY_ASK = {
    "cubes": set(),
    "containers.hdf5": {"cubes"},
    "containers.tiff": {"cubes"},
    "containers.zarr": {"cubes"},
    "containers.mat": {"cubes", "containers.hdf5"},
    "containers": {"cubes"},
    "writers": set(),
    "prepare": {"cubes"},
    "dataset": {"cubes", "prepare"},
    "photographs": {"cubes", "prepare"},
    "phantom": set(),
}


def room_of(module: str) -> str:
    """gen_hyperspectral.containers.zarr.chunks, or the room itself -> containers.zarr; "" for what lies at the root."""
    inside = module.partition(".")[2]
    return inside if inside in MAY_ASK else inside.rpartition(".")[0]


def asked(room: str, source: str) -> set[str]:
    """The other rooms that a module of `room` imports from, late imports too; settings at the root are nobody's."""
    modules = {n.module or "" for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom)}
    return {room_of(module) for module in modules if module.startswith("gen_hyperspectral")} - {room, ""}


def test_an_arrow_between_rooms_is_seen_wherever_the_import_stands():
    late = "def f():\n    from gen_hyperspectral.dataset.dataset import build\n"
    room = "from gen_hyperspectral.containers.hdf5 import library\n"
    root = "from gen_hyperspectral.reader_options import MatReader\n"
    assert asked("containers.mat", late + room + root) == {"dataset", "containers.hdf5"}


def test_every_module_lies_in_a_room_or_says_what_there_is():
    outside = {path.name for path in ROOT.glob("*.py")}
    assert outside == {"__init__.py", "plugin.py", "dataset_options.py", "reader_options.py", "writer_options.py"}
    assert {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("*/**/*.py")} == set(MAY_ASK)


def test_rooms_ask_those_below_them_and_no_arrow_is_allowed_that_nobody_needs():
    found = {room: set() for room in MAY_ASK}
    for path in ROOT.glob("*/**/*.py"):
        room = ".".join(path.parent.relative_to(ROOT).parts)
        found[room] |= asked(room, path.read_text())
    assert found == MAY_ASK


def test_no_two_rooms_ask_each_other():
    order = list(MAY_ASK)
    assert all(order.index(below) < order.index(room) for room, rooms in MAY_ASK.items() for below in rooms)
