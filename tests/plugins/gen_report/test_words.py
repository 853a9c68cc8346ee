"""Numbers, durations and counts in words."""

from __future__ import annotations

import pytest

from gen_report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (33.4123, "33.41"),
        (0.0, "0"),
        (3.2e-6, "3.200e-06"),
        (12345.6, "12346"),
        (None, "–"),
        (float("nan"), "not finite"),
        (40, "40"),
    ],
)
def test_numbers_read_well(value, text):
    assert words.number(value) == text


def test_durations_and_counts_read_well():
    assert [words.duration(s) for s in (0.84, 42, 200, 18_730)] == [
        "0.8 s",
        "42 s",
        "3 min 20 s",
        "5 h 12 min",
    ]
    assert [words.count(n) for n in (912, 38_300, 5_930_000)] == ["912", "38,300", "5.9 M"]


def test_nested_data_become_one_line():
    assert words.flat({"a": [1, 2.5], "b": {"c": "x"}}) == "a: 1, 2.5, b: c: x"
