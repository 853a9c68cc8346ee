"""The studies: the published tables as sweeps, and phantom twins that differ in sizes and budget alone."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from gen_core.recipe import load_recipe
from gen_core.registry import Registry
from gen_core.run.studies.sweep import Sweep, SweepRequest, plan_sweep

STUDIES = Path(__file__).resolve().parents[2] / "recipes" / "studies"
NAMES = {
    "vqgan_vs_vqvae": (6, 6),  # children of the study, of its twin
    "codebook_size": (9, 6),
    "latent_size": (16, 6),
    "kmeans": (6, 6),
    "normalization": (3, 3),
}
SCALED = ("prior.base", "codec.codes")  # axes whose values are sizes; every other axis has the same values in both


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


def sweep_of(name):
    made = Sweep(SweepRequest(STUDIES / f"{name}.toml"))
    made.fill()
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_study_and_its_twin_have_their_children(name):
    assert [len(sweep_of(n).children) for n in (name, f"{name}_phantom")] == list(NAMES[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_twin_sweeps_the_same_settings(name, registry):
    full, twin = (load_recipe(STUDIES / f"{n}.toml", registry=registry).sweep for n in (name, f"{name}_phantom"))
    assert list(full.grid) == list(twin.grid) and list(full.cases) == list(twin.cases)
    for key in full.grid:
        if key not in SCALED:
            assert full.grid[key] == twin.grid[key]
    for case in full.cases:
        shared = full.cases[case].keys() & twin.cases[case].keys()
        assert {k: full.cases[case][k] for k in shared if ".fit." not in k} == {
            k: twin.cases[case][k] for k in shared if ".fit." not in k
        }
        assert shared, "a case sets the same thing in both"


@pytest.mark.parametrize("name", [n + twin for n in NAMES for twin in ("", "_phantom")])
def test_the_scores_of_a_study_come_from_an_extractor_that_all_children_share(name, registry):
    recipe = load_recipe(STUDIES / f"{name}.toml", registry=registry)
    assert recipe.table("features.random").use == "random-conv64"
    assert recipe.table("metrics.hyperspectral-fid").options.features == "features.random"
    using_codec = [t.name for t in recipe.tables_of("metric") if "features.codec" in attrs.asdict(t.options).values()]
    assert not using_codec, "scores in a codec's own features never compare between codecs"
    shared = [child.prints.get("fit.segmenter") for child in sweep_of(name).children]
    assert len(set(shared)) == 1 and shared[0], "one segmenter for all"


@pytest.mark.parametrize("name", ["vqgan_vs_vqvae", "vqgan_vs_vqvae_phantom"])
def test_the_codecs_differ_in_the_discriminator_alone(name, registry):
    with_, without = (
        load_recipe(c.request.recipe, c.request.overrides, registry).table("codec").options
        for c in (sweep_of(name).children[i] for i in (0, len(sweep_of(name).children) // 2))
    )
    ours, theirs = attrs.asdict(with_), attrs.asdict(without)
    assert ours.pop("discriminator") and "discriminator" not in theirs
    ours["fit"]["groups"] = {}  # the discriminator's learning rate
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_the_dry_run_of_a_study_knows_sizes_without_data(name):
    request = SweepRequest(STUDIES / f"{name}.toml", only=(sweep_of(name).children[0].name,))
    (row,) = plan_sweep(request)["children"]
    assert row["parameters"]["prior"] > 1e7 and row["gflop"]["denoise"] > 0
    assert any("dataset.root" in line for line in row["missing"])


def test_the_published_rows_are_the_children():
    assert [c.settings["codec.codes"] for c in sweep_of("codebook_size").children[::3]] == [102, 1024, 10240]
    made = [c.settings for c in sweep_of("latent_size").children]
    latents = {(tuple(s["codec.stride"]), s["codec.latent_channels"]) for s in made}
    assert latents == {((16,) * 3, 256), ((8,) * 3, 8), ((8,) * 3, 32), ((8,) * 3, 256), ((4,) * 3, 8), ((4,) * 3, 32)}
    assert [c.name for c in sweep_of("normalization").children] == ["norm-batch", "norm-instance", "norm-group"]
    recipe = load_recipe(STUDIES / "normalization_phantom.toml")
    assert recipe.table("codec").options.fit.batch == 1
