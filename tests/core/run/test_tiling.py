"""[tiling] in a run: exact tiles change nothing that is recorded, "fast" ones are another result and say so."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from gen_core.errors import RecipeError
from gen_core.recipe import load_recipe
from gen_core.run.api import RunRequest, plan, run
from gen_core.run.graph import build_graph
from gen_core.run.smoke import smoke_options
from gen_core.tiling.tiles import check_tiling

CODEC = (
    'codec = {use = "vqvae", stride = [2, 4, 4], width = 4, codes = 8, norm_groups = 2, latent_channels = 2, '
    'latent_scaling = "per-channel", fit = {steps = 2, batch = 2, crop = [0, 8, 8], precision = "float32"}}'
)
EXACT = ("tiling.mode='exact'", "tiling.tile=[2, 8, 8]")


@pytest.fixture
def coded(recipe):
    """The small recipe with a codec of convolutions, fitted on crops."""
    text = recipe.read_text()
    start, end = text.index("[codec]"), text.index("[prior]")
    recipe.write_text(text[:start].replace("gen = 1", f"gen = 1\n{CODEC}") + text[end:])
    return recipe


def test_a_run_in_exact_tiles_goes_on_from_one_without_and_gives_the_same(coded, tmp_path, states):
    ask = lambda *overrides: RunRequest(coded, overrides=overrides, out=tmp_path / "run", until_step="sample")
    run(ask())
    steps = tmp_path / "run" / "steps"
    z = load_file(steps / "encode" / "latents-train.safetensors")["z"]
    x = load_file(steps / "sample" / "chunks" / "chunk-00000.safetensors")["x"]
    again = states(run(ask(*EXACT)))
    assert set(again.values()) == {"skipped"}
    run(RunRequest(coded, overrides=EXACT, out=tmp_path / "run", until_step="sample", from_step="encode"))
    tiled_z = load_file(steps / "encode" / "latents-train.safetensors")["z"]
    tiled_x = load_file(steps / "sample" / "chunks" / "chunk-00000.safetensors")["x"]
    assert not torch.equal(tiled_z, z), "not one rounding differs: were there any tiles?"
    torch.testing.assert_close(tiled_z, z, rtol=1e-5, atol=1e-5)
    assert tiled_x.shape == x.shape


def test_fast_tiles_are_another_result_and_the_samples_say_so(coded, tmp_path):
    prints = lambda *overrides: {
        step.name: step.settings for step in build_graph(load_recipe(coded, list(overrides)), {})
    }
    plain, exact, fast = prints(), prints(*EXACT), prints("tiling.mode='fast'", "tiling.overlap=4")
    assert exact == plain
    changed = {name for name in plain if fast[name] != plain[name]}
    assert changed == {"encode", "sample"}
    overrides = ("tiling.mode='fast'", "tiling.tile=[0, 8, 8]", "tiling.overlap=4")
    run(RunRequest(coded, overrides=overrides, out=tmp_path / "run", until_step="sample"))
    manifest = json.loads((tmp_path / "run" / "samples" / "manifest.json").read_text())
    assert "fast" in json.dumps(manifest)


def test_the_plan_tells_tiles_passes_and_crops(coded):
    told = plan(RunRequest(coded, overrides=EXACT))
    assert "codec training crop (1, 3, 8, 8)" in told["shapes"]
    assert {"encode", "decode"} <= told["memory_gib"].keys()
    lines = [note for note in told["notes"] if note.startswith("[tiling]")]
    assert len(lines) == 2
    assert all("tiles of 2 x 8 x 8 voxels in" in line for line in lines)


def test_a_codec_that_cannot_be_tiled_is_refused_in_one_line(coded):
    recipe = load_recipe(coded, EXACT)
    opaque = SimpleNamespace(fitted=True, graphs=dict)
    with pytest.raises(RecipeError, match=r'\[tiling\] mode = "exact": the codec \'vqvae\' does not say how'):
        check_tiling(recipe, opaque)
    check_tiling(recipe, SimpleNamespace(fitted=False, graphs=dict))  # the identity has nothing to tile


def test_a_smoke_fit_keeps_one_volume_at_a_time(coded):
    options = load_recipe(coded, ["codec.fit.batch=8", "codec.fit.accumulate=8"]).table("codec").options
    small = smoke_options(options).fit
    assert (small.batch, small.accumulate) == (2, 2)
