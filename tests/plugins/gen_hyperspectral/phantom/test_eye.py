"""Eyes are pure functions of (seed, subject), with plausible anatomy."""

import numpy as np
import pytest

from gen_hyperspectral.phantom.eye import draw_eye, draw_vessels, draw_visit

EYES = [draw_eye(3, s) for s in range(200)]


def test_an_eye_depends_on_seed_and_subject_alone():
    assert draw_eye(3, 17) == EYES[17]
    assert draw_eye(4, 17) != EYES[17] and draw_eye(3, 18) != EYES[17]


def test_visits_differ_in_light_and_noise_only():
    a, b = draw_visit(3, 17, 0), draw_visit(3, 17, 1)
    assert a.noise_seed != b.noise_seed and a.gain != b.gain
    assert draw_visit(3, 17, 1).noise_seed == b.noise_seed


def test_left_and_right_eyes_are_about_equally_many():
    assert 70 < sum(e.mirrored for e in EYES) < 130


def test_the_disc_is_about_1_8_mm_and_4_5_mm_from_the_fovea():
    width = 2 * np.array([e.disc_radii for e in EYES])
    assert np.abs(width.mean() - 1.83) < 0.06
    away = np.hypot(*(np.array([e.fovea for e in EYES]) - [e.disc for e in EYES]).T)
    assert away.mean() == pytest.approx(4.5, abs=0.1)
    assert away.min() > 3.7


def test_pigment_and_age_vary_between_eyes():
    melanin, age = np.array([(e.melanin, e.age) for e in EYES]).T
    assert melanin.min() < 0.35 and melanin.max() > 0.8
    assert age.min() < 25 and age.max() > 70


def test_vessels_start_at_the_disc_and_follow_the_eyes_axis():
    for eye in EYES[:5]:
        tree = draw_vessels(3, eye, 1.0)
        trunk = tree.start[tree.parent[tree.line] < 0]
        assert np.hypot(*(trunk - eye.disc).T).min() < 0.6
        assert np.hypot(*(tree.stop - eye.fovea).T).min() > 0.5


def test_parameters_are_json():
    import json

    assert json.loads(json.dumps(EYES[0].to_json()))["age"] == EYES[0].age
