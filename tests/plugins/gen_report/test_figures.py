"""Each figure on made-up runs: what it shows, what its caption says, and that it stays away where it has nothing."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from gen_report import (
    figures_copies,
    figures_features,
    figures_frechet,
    figures_images,
    figures_outcasts,
    figures_planes,
    figures_segmentation,
    figures_strips,
    figures_usefulness,
)
from gen_report.gathered import gather
from gen_report.house_style import pixels_as_image
from gen_report.report_options import Html

DPI = 45.0


@pytest.fixture
def got(make_run):
    """Everything of a run of small eyes, gathered."""
    run = make_run(size=(5, 20, 24))
    return gather(run, Html(images=4, reconstructions=2, neighbours=3))


def show(got):
    return figures_images.transform(got)


def raster(picture) -> np.ndarray:
    """The pixels of a data URI, in [0, 1]."""
    data = base64.b64decode(picture.uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float) / 255


def text_of(picture) -> str:
    return base64.b64decode(picture.uri.partition(",")[2]).decode()


def test_interpolation_shows_every_frame(got):
    picture = figures_strips.interpolation(got, show(got), DPI)
    assert "N = 7" in picture.caption and raster(picture).shape[1] == pytest.approx(DPI * (7 * 1.46 - 0.04), abs=2)
    got.between = []
    assert figures_strips.interpolation(got, show(got), DPI) is None


def test_the_denoising_strip_has_two_rows_and_ends_at_the_sample(got):
    picture = figures_strips.denoising(got, show(got), DPI)
    assert len(got.way) == 6 and "two rows of 6 images" in picture.alt.lower()
    got.way = []
    assert figures_strips.denoising(got, show(got), DPI) is None


def test_ct_is_shown_in_three_planes_through_both_windows(make_run):
    run = make_run(size=(9, 20, 24), channels=("hu",), depth="slices", spacing_mm=(4.0, 1.0, 2.0))
    run.spec = run.spec.__class__(**{**{k: getattr(run.spec, k) for k in SPEC}, "units": "HU"})
    got = gather(run, Html(images=2))
    lung = figures_planes.LUNG.ends, figures_planes.MEDIASTINAL.ends
    assert lung == ((-1350.0, 150.0), (-160.0, 240.0))
    picture = figures_planes.orthogonal(got, DPI)
    assert "W 1500, L -600" in picture.caption and "W 400, L 40" in picture.caption and "N = 3" in picture.caption
    assert not figures_planes.is_slices(make_run(size=(5, 20, 24)).spec)


SPEC = ("size", "channels", "depth", "wavelength_nm", "spacing_mm", "scale", "masks")


def test_planes_are_cut_in_the_middle_with_the_last_slice_on_top():
    volume = np.arange(3 * 5 * 7, dtype=float).reshape(3, 5, 7)
    axial, coronal, sagittal = figures_planes.cuts(volume)
    assert (axial == volume[1]).all() and coronal.shape == (3, 7) and sagittal.shape == (3, 5)
    assert (coronal[0] == volume[2, 2]).all() and (sagittal[-1] == volume[0, :, 3]).all()


def test_planes_are_true_to_their_size_in_millimetres(make_run):
    spec = make_run(size=(9, 20, 24), depth="slices", spacing_mm=(4.0, 1.0, 2.0)).spec
    (ah, aw), (ch, cw), (sh, sw) = figures_planes.extents(spec)
    assert aw == cw and ch == sh and ah == sw
    assert ah / aw == pytest.approx(20 / 48) and ch / cw == pytest.approx(36 / 48)


def test_slices_of_unknown_units_get_one_scale(make_run):
    run = make_run(size=(7, 20, 24), depth="slices")
    picture = figures_planes.orthogonal(gather(run, Html(images=2)), DPI)
    assert "window" not in picture.caption and "drawn as cubes" in picture.caption


def test_components_agree_with_a_singular_value_decomposition_by_hand():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 4)) * (5, 3, 1, 0.1)
    scores, share = figures_features.principal_components(vectors, 3)
    values = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
    assert share == pytest.approx(values[:3] / values.sum())
    assert scores.var(0, ddof=1) == pytest.approx(values[:3])


def test_components_agree_with_scikit_learn():
    PCA = pytest.importorskip("sklearn.decomposition").PCA
    vectors = np.random.default_rng(1).normal(size=(40, 6)) @ np.diag([4, 3, 2, 1, 1, 1])
    ours, theirs = figures_features.principal_components(vectors, 2)[0], PCA(2).fit_transform(vectors)
    assert np.abs(ours) == pytest.approx(np.abs(theirs))


def test_the_scatter_plot_takes_as_many_volumes_of_each_source(got):
    got.features.vectors["synthetic"] = got.features.vectors["synthetic"][:9]
    picture = figures_features.components(got)
    assert "all 27 points" in picture.caption and "7 features of [features.codec]" in picture.caption
    got.features = None
    assert figures_features.components(got) is None


def test_distances_over_n_carry_limit_interval_and_feature_size(got):
    volumes, triplets = figures_frechet.over_n(got)
    assert "synthetic 1 (0.6 … 1.4) from N = 10, 20, 40" in volumes.caption
    assert "64 features, codec" in volumes.caption and "endlessly many triplets" in triplets.caption
    got.results["fid"]["extra"] = {"over_n": {"train": {"n": [3]}}, "over_triplets": {"train": None}}
    assert figures_frechet.over_n(got) == []


def test_distances_plane_by_plane_are_bars_or_a_curve_of_wavelengths(got):
    (bars,) = figures_frechet.per_plane(got)
    assert "each plane" in bars.caption and "64 features" in bars.caption
    got.results["fid"]["extra"]["planes"] = {"synthetic": {"450 nm": 1.0, "900 nm": 2.0}}
    assert "each band" in figures_frechet.per_plane(got)[0].caption
    got.results["fid"]["extra"]["planes"] = {}
    assert figures_frechet.per_plane(got) == []


def test_precision_moves_from_before_to_after(got):
    picture = figures_segmentation.precision(got)
    assert "vein 0.72 to 0.97 (N = 20)" in picture.caption
    got.results["segmentation"]["extra"] = {"table": [{"class": "vein"}]}
    assert figures_segmentation.precision(got) is None


def test_probes_stand_beside_chance_and_ceiling(got):
    (picture,) = figures_usefulness.utility(got)
    assert "'deposits'" in picture.title and "reaches 0.970" in picture.caption
    assert "both over real +0.050 (-0.01 … 0.11)" in picture.caption and "present 8, absent 12" in picture.caption
    got.results["utility"]["values"] = []
    assert figures_usefulness.utility(got) == []


def test_recovery_names_its_number_of_queries(got):
    (picture,) = figures_usefulness.recovery(got)
    assert "N = 40" in picture.caption


def test_a_metric_is_known_by_what_its_table_uses(got):
    got.run.recipe["metrics"] = {"gain": {"use": "utility"}, "utility": {"use": "psnr"}}
    got.run.metrics["results"]["gain"] = got.results["utility"]
    assert figures_usefulness.of_use(got, "utility") == ["gain"]


def test_flagged_samples_are_marked_in_the_histogram(got):
    picture = figures_copies.distances(got)
    assert "under the threshold lie sample 7 (1 in all)" in picture.caption
    for row in got.extra("neighbours"):
        row["copy"] = False
    assert "Triangles" not in figures_copies.distances(got).caption


def test_neighbours_are_found_by_id(got):
    picture = figures_copies.neighbours(got, show(got), DPI)
    assert picture.caption.startswith("The 3 of N = 40 samples") and "train-002" in got.by_id
    assert np.array_equal(got.by_id["train-002"], got.run.real("train", 3)[2].x)


def test_the_worst_samples_are_the_farthest_unless_a_metric_ranks_them(got):
    picture = figures_outcasts.worst(got, show(got), DPI)
    assert "sample 39, sample 38" in picture.alt and "farthest" in picture.caption
    got.results["memorization"]["extra"]["worst"] = [{"id": "sample-000003", "why": "dark"}]
    assert "sample 3." in figures_outcasts.worst(got, show(got), DPI).alt


def test_rejected_samples_are_pictured_with_their_first_reason(got):
    picture = figures_outcasts.rejected(got, show(got), DPI)
    assert "N = 2 samples" in picture.caption and "sample 41, sample 47" in picture.alt


def test_noise_becomes_a_jpeg_and_flat_colours_stay_a_png():
    noise = np.random.default_rng(0).random((60, 70, 3))
    flat = np.full((60, 70, 3), 0.25)
    assert pixels_as_image(noise).startswith("data:image/jpeg") and pixels_as_image(flat).startswith("data:image/png")
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(pixels_as_image(flat).partition(",")[2]))))
    assert seen.shape[:2] == (60, 70) and (seen[..., :3] == 64).all()


def test_curves_are_vectors_that_fetch_nothing(got):
    text = text_of(figures_frechet.over_n(got)[0])
    addresses = re.findall(r'href="([^"]*)"', text)
    assert text.count("<svg") == 1 and all(
        a.startswith(("#", "http://purl.org", "http://creativecommons")) for a in addresses
    )
