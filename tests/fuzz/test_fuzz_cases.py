"""What fuzzing found stays mended, whole files are read, and the fuzzer's own mutations run for a moment."""

import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("pydicom")
sys.path.insert(0, str(Path(__file__).parent))
import fuzz_targets
import run

CASES = sorted(p for p in (Path(__file__).parent / "cases").glob("*/*") if p.is_file())
REFUSED = {"state-json": 1, "torch-file": 2}  # seeds that name a file which is not there, or are read as two formats


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_is_refused_in_one_line(path, tmp_path):
    _, target = fuzz_targets.case_of(path)
    message = fuzz_targets.check(target, tmp_path, path.read_bytes())
    assert message and "\n" not in message


@pytest.mark.parametrize("name", [n for n, target in fuzz_targets.TARGETS.items() if target.there])
def test_seeds_are_read_and_damaged_ones_refused(name, tmp_path):
    target, rng = fuzz_targets.TARGETS[name], random.Random(1)
    whole = target.seeds()
    refused = [message for data in whole if (message := fuzz_targets.check(target, tmp_path, data))]
    assert len(refused) == REFUSED.get(name, 0) + (name == "nifti"), refused  # a scaled image is no label map
    for _ in range(12):
        fuzz_targets.check(target, tmp_path, run.mutate(rng, rng.choice(whole), whole, target.tokens))


def test_an_error_of_another_kind_is_a_finding(tmp_path):
    def raising(folder, data):
        raise KeyError("x")

    def two_lines(folder, data):
        from gen_core.errors import DataError

        raise DataError("one\ntwo")

    for use, kind in ((raising, KeyError), (two_lines, fuzz_targets.Finding)):
        with pytest.raises(kind):
            fuzz_targets.check(fuzz_targets.Target(use, list, ()), tmp_path, b"")
