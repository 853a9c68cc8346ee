"""Wrong shapes, NaN and missing memory in the steps after the fits: one line, nothing poisoned, then it goes on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gen_cli.main import app

RECIPE = """gen = 1
name = "small"
[volume]
size = [4, 8, 8]
[dataset]
use = "retina-phantom"
subjects = 5
[codec]
use = "identity"
[prior]
use = "ddpm3d"
base = 8
multipliers = [1]
heads = 1
head_dim = 8
steps = 10
[prior.fit]
steps = 2
batch = 2
[sampler]
use = "ddim"
[sample]
n = 2
batch = 2
steps = 2
[metrics.psnr]
"""
_spec = importlib.util.spec_from_file_location("on_disk", Path(__file__).with_name("on_disk.py"))
on_disk = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(on_disk)


def short(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def nan(z):
    return torch.full_like(z, float("nan"))


def thin(z):
    return z[..., :-1]


def test_each_failure_is_one_line_and_the_same_command_goes_on(tmp_path, monkeypatch):
    from gen_codecs.identity_codec import Identity
    from gen_core.run.scoring import evaluation

    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE)

    def run():
        out = CliRunner().invoke(app, ["run", str(recipe), "--out", str(tmp_path / "run")], prog_name="gen")
        assert on_disk.poisoned(tmp_path / "run") == []
        return out.exit_code, out.stderr.strip().splitlines()

    for owner, name, broken, step, said in [
        (Identity, "encode", thin, "encode", "[codec] encodes "),
        (Identity, "encode", nan, "encode", "NaN or infinite values; fit it longer"),
        (Identity, "encode", short, "encode", "encode: out of memory; try [encode] batch = 1"),
        (Identity, "decode", thin, "sample", "chunk 0: [codec] decodes to (2, 1, 4, 8, 7) where (2, 1, 4, 8, 8)"),
        (Identity, "decode", nan, "sample", "sampling: chunk 0: [codec] decodes to NaN or infinite values"),
        (Identity, "decode", short, "sample", "sample: out of memory; try a smaller [sample] batch"),
        (evaluation, "build_metrics", short, "evaluate", "evaluate: out of memory; try a smaller [evaluate] batch"),
    ]:
        with monkeypatch.context() as patch:
            wrong = broken if broken is short else (lambda self, z, broken=broken: broken(z))
            patch.setattr(owner, name, wrong)
            code, lines = run()
        assert code == 5 and said in lines[-1] and not any("Traceback" in line for line in lines), lines
        assert not (tmp_path / "run" / "steps" / step / "done.json").exists()
    code, lines = run()
    assert code == 0, lines


@pytest.fixture(autouse=True)
def own_plugins_only(monkeypatch):
    monkeypatch.setenv("GEN_PLUGINS", "off")
