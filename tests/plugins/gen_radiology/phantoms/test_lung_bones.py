"""Ribs go around the lungs and fall to the front."""

import numpy as np
import pytest

from gen_radiology.phantoms import lung_anatomy as anatomy
from gen_radiology.phantoms.lung_anatomy import LEFT, RIGHT
from gen_radiology.phantoms.lung_bones import ribs


@pytest.fixture(scope="module", params=[0, 1, 2])
def chest(request):
    return anatomy.draw_chest(np.random.default_rng(request.param))


def test_ribs_go_around_the_lungs_and_fall_to_the_front(chest):
    bone, cartilage = ribs(chest)
    for side in (RIGHT, LEFT):
        mine = side * bone.start[:, 2] > 40
        at = bone.start[mine]
        assert (anatomy.lung_sdf(chest, *at.T, side) > bone.r0[mine] - 3).all()
    assert len(bone.start) == 24 * 25 and len(cartilage.start) > 20
    for k in range(22):  # the last pair is short
        rib = bone.start[25 * k : 25 * k + 25]
        assert rib[0, 0] > rib[-1, 0] and rib[0, 1] > rib[-1, 1]
