"""The grids: ends, direction, and the published spacing of each."""

import math

import numpy as np
import pytest
import torch

from gen_core.ddpm.beta_schedule import betas
from gen_core.ddpm.discrete_path import DiscretePath
from gen_core.errors import RecipeError
from gen_core.paths.edm_path import EdmPath
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.paths.sub_vp_path import SubVpPath
from gen_core.paths.time_grid import time_grid
from gen_core.paths.ve_path import VePath
from gen_core.paths.vp_path import VpPath

PATHS = [VpPath(), SubVpPath(), VePath(), EdmPath(), RectifiedFlowPath(), DiscretePath(betas("cosine", 300))]


@pytest.mark.parametrize("spacing", ["uniform", "edm", "log-snr"])
@pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)
def test_every_grid_falls_from_one_to_zero(path, spacing):
    for n in (1, 2, 3, 40):
        ts = time_grid(path, n, spacing)
        assert ts.dtype == torch.float64 and ts.shape == (n + 1,)
        assert ts[0] == 1 and ts[-1] == 0 and (ts.diff() < 0).all()
        assert spacing == "uniform" or n == 1 or ts[-2].item() == pytest.approx(path.last, rel=1e-6)


def test_edm_levels_are_those_of_the_paper():
    """Karras et al. 2022, eq. 5, by numpy."""
    i = np.arange(18)
    sigma = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(EdmPath().sigma(EdmPath().grid(18)).numpy(), [*sigma, 0.0], rtol=1e-9)


def test_a_path_spaces_its_own_grid_and_ends_at_its_least_level():
    path = VePath(spacing="log-snr")
    sigma = path.sigma(path.grid(5))
    np.testing.assert_allclose(sigma[:-1].log().diff(), np.full(4, math.log(0.01 / 50) / 4), rtol=1e-4)
    assert sigma[-2].item() == pytest.approx(0.01, rel=1e-9)
    assert VpPath(spacing="edm").grid(9)[-2].item() == pytest.approx(1e-3, rel=1e-6)
    torch.testing.assert_close(VpPath().grid(4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))


def test_no_steps_are_refused():
    with pytest.raises(RecipeError, match="steps = 0: at least 1"):
        VpPath().grid(0)
