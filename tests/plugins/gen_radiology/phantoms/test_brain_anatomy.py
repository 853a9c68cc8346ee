"""The head: coordinates there and back, nearly the same left and right, folded, with everything in its place."""

import numpy as np
import pytest
from scipy import ndimage

from gen_radiology.phantoms import brain_anatomy as anatomy
from gen_radiology.phantoms.brain_mri import draw
from gen_radiology.phantoms.brain_mri_options import BrainMriPhantom
from gen_radiology.phantoms.brain_render import CSF, FAT, GREY, WHITE, tissues
from gen_radiology.phantoms.grid import Grid

FINE = Grid.centred((3, 112, 96), (6.0, 1.9, 1.8), 22.0)


@pytest.fixture(scope="module", params=[0, 1])
def head(request):
    return anatomy.draw_head(np.random.default_rng(request.param))


def test_points_lead_to_the_picture_and_back(head):
    points = np.random.default_rng(0).uniform(-60, 60, (50, 3))
    back = anatomy.to_canonical(head, anatomy.to_picture(head, points))
    np.testing.assert_allclose(back, points, atol=0.1)


def test_a_grid_is_placed_as_its_points_are(head):
    grid = Grid.centred((3, 4, 5), (30.0, 40.0, 35.0), 12.0)
    p = anatomy.place(head, grid)
    points = np.stack(np.meshgrid(*(a.ravel() for a in grid.axes), indexing="ij"), -1).reshape(-1, 3)
    at = anatomy.to_canonical(head, points)
    for axis, a in enumerate((p.z, p.y, p.x)):
        np.testing.assert_allclose(a.ravel(), at[:, axis], atol=1e-3)


def test_the_hulls_are_the_same_left_and_right_in_canonical_space():
    at = np.random.default_rng(1).uniform(-90, 90, (3, 500)).astype(np.float32)
    for one, other in zip(anatomy.hull_sdf(anatomy.Place(*at)), anatomy.hull_sdf(anatomy.Place(at[0], at[1], -at[2]))):
        np.testing.assert_allclose(one, other)


def test_brains_are_nearly_symmetric_but_not_quite(head):
    shares, _ = tissues(head, FINE, None)
    p = np.argwhere(np.ones(FINE.size, bool)) * FINE.spacing + FINE.origin
    mirrored = anatomy.to_picture(head, anatomy.to_canonical(head, p) * (1, 1, -1))
    index = ((mirrored - FINE.origin) / FINE.spacing).T
    white = shares[WHITE]
    other = ndimage.map_coordinates(white, index, order=1).reshape(white.shape)
    assert 0.75 < np.corrcoef(white[1].ravel(), other[1].ravel())[0, 1] < 0.99


def test_the_cortex_is_folded_and_as_thick_as_drawn(head):
    """The ribbon's volume over its surface is its thickness; folds make it longer than the hull."""
    shares, _ = tissues(head, FINE, None)
    slab = shares[:, 1]
    pixel = FINE.spacing[1] * FINE.spacing[2]
    outline = (anatomy.hull_sdf(anatomy.place(head, FINE))[0][1] < 0).sum() * pixel
    around = 2 * np.sqrt(np.pi * outline)  # of a disc with the hull's area
    grey = slab[GREY].sum() * pixel
    assert 1.5 < grey / (head.cortex * around) < 6.0
    assert 0.02 < slab[CSF].sum() * pixel / outline < 0.4


def test_white_matter_is_wrapped_in_grey(head):
    shares, masks = tissues(head, FINE, None)
    inner = ndimage.distance_transform_edt(masks["brain"][1], sampling=FINE.spacing[1:])
    depth = [inner[shares[k][1] > 0.6].mean() for k in (CSF, GREY, WHITE) if (shares[k][1] > 0.6).any()]
    assert depth[-1] > depth[-2] + 2.0


def test_scalp_is_outside_and_bone_between(head):
    shares, masks = tissues(head, FINE, None)
    line = shares[:, 1, FINE.size[1] // 2]
    scalp = np.flatnonzero(line[FAT] > 0.3)
    brain = np.flatnonzero(masks["brain"][1, FINE.size[1] // 2])
    assert scalp[0] < brain[0] and scalp[-1] > brain[-1]
    between = line[:, scalp[0] : brain[0]].sum(0)
    assert between.min() < 0.35  # bone


def test_ventricles_grow_with_age_and_lie_in_the_middle():
    volumes, size = [], []
    o = BrainMriPhantom(lesions=0.0)
    for subject in range(10):
        scan = draw(o, (10, 40, 42), (5.0, 5.0, 4.6), subject)
        p = anatomy.place(scan.head, scan.grid)
        shares, _ = tissues(scan.head, scan.grid, None)
        deep = (np.abs(p.x) < 30) & (np.abs(p.x) > 4) & (np.abs(p.y) < 30) & (np.abs(p.z - 10) < 12)
        volumes.append(shares[CSF][deep].sum())
        size.append(scan.head.ventricles)
    assert np.corrcoef(volumes, size)[0, 1] > 0.7
