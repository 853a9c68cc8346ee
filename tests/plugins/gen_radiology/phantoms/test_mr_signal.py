"""Signal equations against their limits, the golden order of tissues, and the noise of magnitude images."""

import numpy as np
import pytest

from gen_radiology.phantoms.mr_signal import (
    CONTRASTS,
    TISSUES,
    Tissue,
    ernst_angle,
    rician,
    spin_echo,
    spoiled_gradient_echo,
)

ORDER = {
    "t1": ("white-matter", "lesion", "grey-matter", "csf"),
    "t2": ("csf", "lesion", "grey-matter", "white-matter"),
}


def test_a_spin_echo_with_endless_repetition_decays_with_t2_alone():
    tissue = Tissue(t1=700.0, t2=90.0, t2_star=40.0, pd=0.8)
    assert spin_echo(tissue, 1e6, 45.0) == pytest.approx(0.8 * np.exp(-0.5), rel=1e-9)
    assert spin_echo(tissue, 1e6, 1e-9) == pytest.approx(0.8)


def test_a_spin_echo_at_a_short_echo_is_saturation_recovery():
    tissue = Tissue(t1=700.0, t2=1e9, t2_star=40.0, pd=1.0)
    assert spin_echo(tissue, 500.0, 1e-6) == pytest.approx(1 - np.exp(-500 / 700), rel=1e-6)


def test_a_gradient_echo_at_ninety_degrees_is_saturation_recovery_with_t2_star():
    tissue = Tissue(t1=700.0, t2=90.0, t2_star=40.0, pd=0.9)
    expected = 0.9 * (1 - np.exp(-300 / 700)) * np.exp(-10 / 40)
    assert spoiled_gradient_echo(tissue, 300.0, 10.0, 90.0) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("t1, tr", [(500.0, 18.0), (833.0, 30.0), (2569.0, 7.0)])
def test_the_steady_state_is_that_of_pulse_after_pulse(t1, tr):
    tissue, a = Tissue(t1=t1, t2=1e9, t2_star=1e9, pd=1.0), np.radians(25.0)
    along = 1.0
    for _ in range(6000):  # Bloch: each pulse tips by a, each interval recovers
        along = 1 + (along * np.cos(a) - 1) * np.exp(-tr / t1)
    assert spoiled_gradient_echo(tissue, tr, 0.0, 25.0) == pytest.approx(along * np.sin(a), rel=1e-6)


@pytest.mark.parametrize("t1, tr", [(500.0, 18.0), (2569.0, 40.0)])
def test_the_ernst_angle_gives_the_strongest_echo(t1, tr):
    tissue = Tissue(t1=t1, t2=1e9, t2_star=1e9, pd=1.0)
    angles = np.linspace(0.5, 90.0, 3581)
    best = angles[np.argmax([spoiled_gradient_echo(tissue, tr, 0.0, a) for a in angles])]
    assert ernst_angle(t1, tr) == pytest.approx(best, abs=0.03)


@pytest.mark.parametrize("contrast", ["t1", "t2"])
def test_tissues_have_the_golden_order(contrast):
    signals = [CONTRASTS[contrast].signal(TISSUES[name]) for name in ORDER[contrast]]
    assert signals == sorted(signals, reverse=True)
    assert min(np.diff(signals[::-1])) > 0.05 * signals[1]


def test_magnitude_noise_without_signal_is_rayleigh():
    noise = rician(np.zeros((40, 50, 60), np.float32), 3.0, np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(3.0 * np.sqrt(np.pi / 2), rel=0.005)
    assert noise.std() == pytest.approx(3.0 * np.sqrt(2 - np.pi / 2), rel=0.01)


def test_magnitude_noise_on_strong_signal_is_gaussian_with_a_small_offset():
    noisy = rician(np.full((40, 50, 60), 90.0, np.float32), 3.0, np.random.default_rng(1))
    assert noisy.std() == pytest.approx(3.0, rel=0.01)
    assert noisy.mean() == pytest.approx(90 + 3.0**2 / (2 * 90), abs=0.03)  # Gudbjartsson & Patz 1995, eq. 3
