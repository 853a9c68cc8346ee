"""The GPU benchmark runs at toy sizes on the CPU, part by part, and says what it found and what failed."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def gpu():
    paths = list(sys.path)
    spec = importlib.util.spec_from_file_location("benchmark_gpu", BENCHMARKS / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = paths


def run(gpu, folder, *parts):
    code = gpu.main(["--device", "cpu", "--toy", "--inline", "--out", str(folder), "--parts", ",".join(parts)])
    result = json.loads((folder / "gpu.json").read_text())
    return code, {row["name"]: row for row in result["rows"]}, (folder / "gpu.md").read_text()


def numbers_are_finite(rows):
    return all(math.isfinite(v) for row in rows.values() for v in row.values() if isinstance(v, float))


def test_sampling_is_measured_and_the_numbers_checked(gpu, tmp_path):
    code, rows, page = run(gpu, tmp_path, "check", "sample-224")
    assert code == 0 and numbers_are_finite(rows)
    assert rows["float32 against float64"]["relative_error"] < 1e-4
    assert 1e-4 < rows["bf16 against float64"]["relative_error"] < 0.05
    assert {f"sample 224, {n} steps, ours" for n in (2, 3, 4)} <= rows.keys()
    assert all(row["images/s"] > 0 for row in rows.values() if "images/s" in row)
    assert "Toy sizes" in page and "sample 224, 2 steps, plain TF32" in page


@pytest.mark.slow
def test_every_part_runs_in_a_process_of_its_own(gpu, tmp_path):
    code = gpu.main(["--device", "cpu", "--toy", "--out", str(tmp_path)])
    rows = {row["name"]: row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    assert code == 0 and numbers_are_finite(rows)
    assert {"train prior 672, ours", "train prior 224, plain bf16"} <= rows.keys()
    assert rows["vqgan step 672, batch 1, checkpointed"]["seconds"] > 0


def test_what_fails_becomes_a_row_and_the_rest_goes_on(gpu, tmp_path):
    bench = gpu.Bench(torch.device("cpu"), gpu.Sizes(True), tmp_path / "rows", 60)

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 PiB\nmore")

    bench.attempt("large", full)
    bench.attempt("small", lambda: bench.row("small", seconds=1.0))
    bench.end = 0.0
    bench.attempt("late", lambda: pytest.fail("there was no time left"))
    rows = [json.loads(line) for line in bench.file.read_text().splitlines()]
    assert [row["name"] for row in rows] == ["large", "small", "late"]
    assert rows[0]["error"] == "CUDA out of memory. Tried to allocate 1 PiB" and rows[2]["skipped"]


def test_the_parts_end_within_nine_minutes(gpu):
    assert sum(gpu.PARTS.values()) + 5 * len(gpu.PARTS) < 540 and gpu.WITHIN < 540


def test_the_floors_are_those_known_for_the_published_size(gpu):
    """2 057 GFLOP at (84, 84, 2), 229 at (28, 28, 2), both base 512; the decoder's 3 350 at 672."""
    sizes = gpu.Sizes(False)
    for size, gflop in (("672", 2057), ("224", 229)):
        prior = sizes.prior(size, torch.device("meta"))
        assert gpu.denoiser_flops(prior) / 1e9 == pytest.approx(gflop, rel=0.05)
    assert gpu.decoder_flops(sizes, "672") / 1e9 == pytest.approx(3350, rel=0.1)
