"""The rooms of gen_radiology: which may ask which, so that one can read them from the ground up."""

import ast
from pathlib import Path

import gen_radiology

ROOT = Path(gen_radiology.__file__).parent
MAY_ASK = {
    "volumes": set(),
    "writers": set(),
    "phantoms": set(),
    "dicom": {"volumes"},
    "nifti": {"volumes"},
    "lidc": {"volumes"},
    "sources": {"volumes", "dicom", "nifti", "lidc"},
    "conversion": {"volumes", "dicom", "nifti", "lidc", "writers"},
    "datasets": {"volumes", "sources"},
}


def asked(room: str, source: str) -> set[str]:
    """The other rooms that a module of `room` imports from, late imports too; settings at the root are nobody's."""
    modules = {n.module or "" for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom)}
    parts = (module.split(".") for module in modules if module.startswith("gen_radiology."))
    return {part[1] for part in parts if not part[1].endswith("_options")} - {room}


def test_an_arrow_between_rooms_is_seen_wherever_the_import_stands():
    late = "def f():\n    from gen_radiology.datasets.dataset import build\n    from gen_radiology.dicom.seg import x\n"
    assert asked("dicom", late + "from gen_radiology.writer_options import NiftiWriter\n") == {"datasets"}


def test_every_module_lies_in_a_room_or_says_what_there_is():
    outside = {path.name for path in ROOT.glob("*.py")}
    assert outside == {"__init__.py", "plugin.py", "dataset_options.py", "reader_options.py", "writer_options.py"}
    assert {path.parent.name for path in ROOT.glob("*/*.py")} == set(MAY_ASK)


def test_rooms_ask_those_below_them_and_no_arrow_is_allowed_that_nobody_needs():
    found = {room: set() for room in MAY_ASK}
    for path in ROOT.glob("*/*.py"):
        found[path.parent.name] |= asked(path.parent.name, path.read_text())
    assert found == MAY_ASK
