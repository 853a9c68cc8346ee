"""LIDC-IDRI: 200 annotation files read, and their nodules grouped; the whole tree by ElementTree beside.

    OMP_NUM_THREADS=1 python benchmarks/lidc_xml.py

The files are made in a temporary folder from the one real reading of tests/data, each shifted by some pixels and
millimetres, so that no two are equal: 200 x 400 kB. The aim is 200 files in under 10 s.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from harness import compare

from gen_core.errors import DataError
from gen_radiology.lidc.nodules import find_nodules
from gen_radiology.lidc.readings import read_readings

FILES = 200
ORIGINAL = Path(__file__).parents[1] / "tests" / "data" / "lidc3" / "072.xml"


def varied(text: str, by: int) -> str:
    """The same reading elsewhere: columns, rows and positions moved."""
    text = re.sub(r"(<[xy]Coord>)(\d+)", lambda m: f"{m[1]}{int(m[2]) + by % 37}", text)
    return re.sub(r"(<imageZposition>)([-\d.]+)", lambda m: f"{m[1]}{float(m[2]) + 2.5 * by}", text)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = ORIGINAL.read_text()
        paths = [Path(folder) / f"{i:03d}.xml" for i in range(FILES)]
        for i, path in enumerate(paths):
            path.write_text(varied(text, i))

        def read() -> int:
            return sum(len(read_readings(path).outlined) for path in paths)

        def grouped() -> int:
            return sum(len(find_nodules(read_readings(path))) for path in paths)

        if "GEN_BENCHMARK_SIDE" not in os.environ and (read(), grouped()) != (13 * FILES, 4 * FILES):
            raise DataError(f"{ORIGINAL}: expected 13 outlines and 4 nodules in each variation")
        sides = {
            "ElementTree alone": lambda: sum(len(ElementTree.parse(path).getroot()) for path in paths),
            "ours, readings": read,
            "ours, nodules": grouped,
        }
        result = compare(f"{FILES} LIDC XML files", sides, rounds=3, warmup=0)
        if result and "sides" in result:
            took = result["sides"]["ours, readings"]["median_s"]
            print(f"\n{took:.1f} s; the aim is under 10 s: {'met' if took < 10 else 'missed'}", file=sys.stderr)


if __name__ == "__main__":
    main()
