"""Units of wavelengths."""

import pytest

from gen_hyperspectral.cubes.wavelengths import to_nm


@pytest.mark.parametrize(
    "values, units, expected",
    [
        ([450, 550], "Nanometers", [450, 550]),
        ([0.45, 0.55], "Micrometers", [450, 550]),
        ([0.45, 0.55], "µm", [450, 550]),
        ([450, 550], " nm ", [450, 550]),
    ],
)
def test_known_units_become_nm_without_a_word(values, units, expected):
    nm, warnings = to_nm(values, units)
    assert nm.tolist() == pytest.approx(expected) and warnings == []


@pytest.mark.parametrize(
    "values, units, expected, word",
    [
        ([0.45, 2.5], None, [450, 2500], "micrometres"),
        ([450, 2500], "Unknown", [450, 2500], "nanometres"),
        ([1, 2, 99], None, None, "unknown"),
        ([0.0, 0.6], "SP1", None, "SP1"),
        ([10000, 20000], "Wavenumber", None, "Wavenumber"),
        ([-1, 500], "nm", None, "negative"),
        ([float("nan")], "nm", None, "non-finite"),
    ],
)
def test_guesses_and_refusals_are_told(values, units, expected, word):
    nm, warnings = to_nm(values, units)
    assert len(warnings) == 1 and word in warnings[0]
    assert nm is None if expected is None else nm.tolist() == pytest.approx(expected)
