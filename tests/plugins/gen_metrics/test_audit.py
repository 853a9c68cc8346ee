"""The audit: false alarms counted on held-out subjects, reasons for no verdict."""

import numpy as np
import pytest
from scipy.stats import beta

from gen_metrics.audit import Alarms, false_alarms, halves, lesson_kinds, objections, planted_kinds, threshold_of


def test_the_kinds_that_are_planted():
    assert list(planted_kinds(0.02, 0.03, 0.9)) == ["exact", "flipped", "shifted", "noisy", "cropped"]
    assert not set(planted_kinds(0.02, 0.03, 0.9)) & set(lesson_kinds(0.02, 0.03, 0.9))


def test_halves_keep_subjects_together_and_are_even():
    subjects = {f"v{i}": f"s{i // 3}" for i in range(60)}
    half = halves(subjects, 5)
    assert all(half[f"v{i}"] == half[f"v{i - i % 3}"] for i in range(60))
    assert sum(half.values()) == 30
    assert half == halves(dict(reversed(subjects.items())), 5) != halves(subjects, 6)


def test_alarms_are_counted_on_the_other_half_both_ways():
    distances = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 0.5, "e": 2.5, "f": 9.0}
    half = {"a": 0, "b": 0, "c": 0, "d": 1, "e": 1, "f": 1}
    # the smallest of three is the threshold: 1.0 finds d; 0.5 finds none
    found = false_alarms(distances, half, 0.01)
    assert (found.count, found.n, found.share) == (1, 6, 1 / 6)
    assert found.low == pytest.approx(beta.ppf(0.025, 1, 6)) and found.high == pytest.approx(beta.ppf(0.975, 2, 5))
    assert found.promised == pytest.approx(1 / 4)
    above = false_alarms(distances, half, 0.01, below=False)  # 3.0 finds f; 9.0 finds none
    assert above.count == 1
    assert false_alarms({"a": 1.0}, {"a": 0}, 0.01) is None


def test_honest_halves_have_about_the_promised_alarms():
    g = np.random.default_rng(0)
    names = [f"v{i:03d}" for i in range(240)]
    half = halves({n: n for n in names}, 0)
    shares = [false_alarms(dict(zip(names, g.gamma(9, 1, 240))), half, 0.01).share for _ in range(400)]
    assert np.mean(shares) == pytest.approx(0.01, abs=0.002)


def test_the_test_of_alarms_is_rarely_wrong_although_thresholds_come_from_few_volumes():
    g = np.random.default_rng(1)
    names = [f"v{i:03d}" for i in range(120)]
    half = halves({n: n for n in names}, 0)
    found = [false_alarms(dict(zip(names, g.gamma(9, 1, 120))), half, 0.01) for _ in range(400)]
    assert np.mean([f.p < 0.05 for f in found]) <= 0.05 < np.mean([f.low > 0.01 for f in found])
    copies = {n: 0.1 + 0.001 * i if half[n] and i < 30 else 5.0 + i for i, n in enumerate(names)}
    assert false_alarms(copies, half, 0.01).p < 0.01


def test_the_threshold_is_never_under_the_smallest_distance():
    assert threshold_of(np.array([3.0, 1.0, 2.0]), 0.01) == 1.0
    assert threshold_of(np.arange(1.0, 200.0), 0.01) == pytest.approx(2.0)


def test_reasons_for_no_verdict():
    fine = Alarms(1, 120, 0.0, 0.05, 0.016, 0.8)
    every = dict.fromkeys(("exact", "shifted"), 1.0)
    assert objections(every, fine, 120, 0.01) == []
    assert objections(every, fine, 99, 0.01) == ["only 99 validation volumes (under 100)"]
    assert objections({"exact": 1.0, "shifted": 0.94}, fine, 120, 0.01) == [
        "the audit found only 94% of shifted copies"
    ]
    assert objections({}, fine, 120, 0.01) == ["no copies were planted"]
    many = Alarms(12, 120, 0.05, 0.17, 0.016, 0.001)
    assert objections(every, many, 120, 0.01) == ["10.0% false alarms on held-out subjects, more than 1.0%"]
