"""The continuous paths: moments of their SDEs by integration, published values, inverses, ends."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from gen_core.errors import RecipeError
from gen_core.paths.edm_path import EdmPath
from gen_core.paths.rectified_flow_path import RectifiedFlowPath
from gen_core.paths.sub_vp_path import SubVpPath
from gen_core.paths.ve_path import VePath
from gen_core.paths.vp_path import VpPath
from gen_core.testing import check_path

PATHS = {
    "vp": VpPath(),
    "vp constant": VpPath(3.0, 3.0),
    "sub-vp": SubVpPath(),
    "ve": VePath(),
    "edm": EdmPath(),
    "rectified flow": RectifiedFlowPath(),
}


@pytest.fixture(params=list(PATHS))
def path(request):
    return PATHS[request.param]


def at(*t):
    return torch.tensor(t, dtype=torch.float64)


def test_paths_keep_the_contract(path):
    check_path(path)


def test_alpha_and_sigma_are_the_moments_of_the_sde(path):
    """d mean = f mean dt, d var = (2 f var + g^2) dt (Song et al. 2021, appendix B), integrated from the data."""
    f, g2 = (lambda t, h=h: h(at(t)).item() for h in (path.drift, path.diffusion2))
    times = np.array([0.1, 0.4, 0.8, 0.97])
    flow = solve_ivp(
        lambda t, y: [f(t) * y[0], 2 * f(t) * y[1] + g2(t)], (0, 0.97), [1.0, 0.0], t_eval=times, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(path.alpha(at(*times)), flow.y[0], rtol=1e-6)
    np.testing.assert_allclose(path.sigma(at(*times)), np.sqrt(flow.y[1]), rtol=1e-6)


def test_published_values():
    """VP and sub-VP from the integral of beta by quadrature; VE's diffusion is eq. 30 of Song et al. 2021."""
    B = quad(lambda t: 0.1 + 19.9 * t, 0, 0.6)[0]
    assert VpPath().alpha(at(0.6)).item() ** 2 == pytest.approx(math.exp(-B), rel=1e-9)
    assert VpPath().sigma(at(0.6)).item() ** 2 == pytest.approx(1 - math.exp(-B), rel=1e-9)
    assert SubVpPath().sigma(at(0.6)).item() == pytest.approx(1 - math.exp(-B), rel=1e-9)
    assert SubVpPath().alpha(at(0.6)) == VpPath().alpha(at(0.6))
    g = 0.01 * 5000**0.6 * math.sqrt(2 * math.log(5000))
    assert VePath().diffusion2(at(0.6)).item() == pytest.approx(g**2, rel=1e-9)
    assert VePath().sigma(at(1.0)).item() == pytest.approx(50.0, rel=1e-6)
    assert EdmPath().sigma(at(0.5)).item() == 40 and EdmPath().alpha(at(0.5)).item() == 1
    assert RectifiedFlowPath().alpha(at(0.2)).item() == 0.8 and RectifiedFlowPath().sigma(at(0.2)).item() == 0.2


def test_the_data_is_without_noise_and_rectified_flow_ends_without_data(path):
    assert path.alpha(at(0.0)) == 1 and path.sigma(at(0.0)) == 0 and path.log_snr(at(0.0)) == math.inf
    end = path.log_snr(at(1.0)).item()
    assert end == -math.inf if isinstance(path, RectifiedFlowPath) else math.isfinite(end)


def test_the_inverse_of_log_snr_holds_to_the_ends_and_beyond_them(path):
    t = torch.cat([torch.logspace(-6, -1, 30, dtype=torch.float64), torch.linspace(0.1, 1, 33, dtype=torch.float64)])
    torch.testing.assert_close(path.log_snr_inverse(path.log_snr(t)), t, rtol=1e-7, atol=0)
    inf = math.inf
    assert path.log_snr_inverse(at(inf, 1e4, -1e4, -inf)).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_times_of_either_precision_give_the_same_values_in_their_own(path):
    t = at(0.25, 0.5, 0.75)
    for method in (path.alpha, path.sigma, path.drift, path.diffusion2, path.log_snr):
        assert method(t).dtype == torch.float64 and method(t.float()).dtype == torch.float32
        torch.testing.assert_close(method(t.float()).double(), method(t), rtol=1e-6, atol=0)
    assert path.log_snr_inverse(path.log_snr(t).float()).dtype == torch.float32


def test_sigma_keeps_its_digits_near_the_data():
    t = at(1e-12)
    assert VpPath().sigma(t).item() == pytest.approx(math.sqrt(0.1 * 1e-12), rel=1e-6)
    assert SubVpPath().sigma(t).item() == pytest.approx(0.1 * 1e-12, rel=1e-6)
    assert VePath().sigma(t).item() == pytest.approx(0.01 * math.sqrt(2 * math.log(5000) * 1e-12), rel=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VpPath(2.0, 1.0), "need 0 < beta_min <= beta_max"),
        (lambda: SubVpPath(0.0, 1.0), "need 0 < beta_min <= beta_max"),
        (lambda: VePath(1.0, 1.0), "need 0 < sigma_min < sigma_max"),
        (lambda: EdmPath(-1.0, 1.0), "need 0 < sigma_min < sigma_max"),
    ],
)
def test_settings_that_make_no_path_are_refused(build, message):
    with pytest.raises(RecipeError, match=message):
        build()
