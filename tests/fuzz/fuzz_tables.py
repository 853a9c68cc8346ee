"""Text that people keep beside their data: conditions of volumes, other names of regions, who is who."""

from __future__ import annotations

from pathlib import Path

import fuzz_seeds as seeds

SCALARS, CLASSES = ("age",), {"finding": ("none", "nodule"), "sex": ()}
COLUMNS = (b"id", b"subject", b"age", b"finding", b"sex")


def conditions(folder: Path, data: bytes) -> None:
    from gen_radiology.datasets.condition_table import read_table

    table = read_table(seeds.write(folder, "a.csv", data), SCALARS, CLASSES)
    for kind in table.rows.values():
        for values in kind.values():
            assert values.keys() == {*SCALARS, *CLASSES}


def regions(folder: Path, data: bytes) -> None:
    from gen_radiology.dicom.roi_names import RoiNames

    found, _ = RoiNames(seeds.write(folder, "a.toml", data)).standardize(["Lung_L", "gtv 1", "?"])
    assert all(found.values())


def pseudonyms(folder: Path, data: bytes) -> None:
    from gen_radiology.conversion.pseudonyms import Pseudonyms

    found = Pseudonyms.load(seeds.write(folder, "a.json", data), folder / "out")
    assert found.patient("P1")


def condition_seeds() -> list[bytes]:
    return [
        b"id,subject,age,finding,sex\na,p1,61,nodule,F\nb,p1,NA,none,M\n,p2,1e2,?,F\n",
        b'\xef\xbb\xbfsubject\tage\tfinding\tsex\r\n"p,1"\t61\tnodule\t"F ""x"""\r\n\r\n',
        b"id;age;finding;sex\na;61;nodule;F\n",
    ]


def region_seeds() -> list[bytes]:
    return [b'lung-left = ["Lung_L", "left lung*"]\ngtv = "GTV*"\n', b'heart = "cor"\n"c" = ["\xc3\xa9"]\n']


def pseudonym_seeds() -> list[bytes]:
    return [b'{"key": "' + b"0f" * 32 + b'", "patients": {"P1": "0001"}, "files": {"1.2.3": "1.2.4"}}']
