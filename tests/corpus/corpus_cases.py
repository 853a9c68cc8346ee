"""Malformed recipes, volumes, masks, checkpoints and archives: each with its command and what this must say.

    python tests/corpus/corpus_cases.py FOLDER       writes every case to FOLDER/NAME/, and FOLDER/cases.json

Made from fixed numbers, so the same bytes every time. The command of a case is that of `gen`, or one of LOADERS, which
load what only a run loads; `{}` stands for the case's folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from attrs import asdict

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
sys.path.insert(0, str(Path(__file__).parent))
from corpus_archives import archives, numpy_files
from corpus_case import Case, write
from corpus_cubes import envi, matlab, sidecars
from corpus_hdf5 import hdf5, matlab_7_3
from corpus_masks import lidc, masks
from corpus_nifti_cubes import nifti_cubes
from corpus_recipes import data_sets, overrides, recipes
from corpus_scans import dicom, nifti
from corpus_tiff import folders, tiff
from corpus_weights import checkpoints, foreign
from corpus_zarr import zarr


def cases() -> list[Case]:
    """All of them, by name."""
    found = [
        *recipes(), *data_sets(), *overrides(), *numpy_files(), *archives(), *sidecars(), *envi(), *matlab(), *nifti(),
        *dicom(), *masks(), *lidc(), *checkpoints(), *foreign(), *hdf5(), *matlab_7_3(), *tiff(), *folders(),
        *zarr(), *nifti_cubes(),
    ]  # fmt: skip
    names = [case.name for case in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"two cases of one name: {twice}"
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    told = []
    for case in cases():
        write(case, folder)
        told.append({k: v for k, v in asdict(case).items() if k != "files"})
    (folder / "cases.json").write_text(json.dumps(told, indent=1))
    print(f"{len(told)} cases in {folder}")


if __name__ == "__main__":
    main()
