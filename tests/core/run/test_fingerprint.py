"""Fingerprints and differences."""

from __future__ import annotations

import pytest

from gen_core.run.fingerprint import canonical, depends, differences, fingerprint


def test_equal_settings_in_another_order_have_one_fingerprint():
    assert fingerprint({"a": 1, "b": (2, 3)}) == fingerprint({"b": [2, 3], "a": 1})


def test_every_value_counts():
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1, "b": None})


def test_objects_that_are_no_settings_are_refused():
    with pytest.raises(TypeError, match="no place in a fingerprint"):
        canonical({"a": object()})


def test_settings_that_only_change_how_a_fit_is_run_do_not_count():
    fit = {
        "steps": 5,
        "log_every": 1,
        "checkpoint_every": 2,
        "workers": 0,
        "validate_every": 3,
        "select": "",
        "shard": False,
    }
    other = {**fit, "log_every": 9, "checkpoint_every": 9, "workers": 4, "validate_every": 9, "shard": True}
    assert depends({"fit": fit}) == depends({"fit": other})
    assert depends({"fit": fit}) != depends({"fit": {**fit, "steps": 6}})


def test_validation_counts_once_it_selects_the_checkpoint():
    fit = {"steps": 5, "validate_every": 3, "validate_volumes": 8, "select": "psnr"}
    assert depends({"fit": fit}) != depends({"fit": {**fit, "validate_every": 4}})


def test_differences_name_each_leaf_with_old_and_new():
    lines = differences({"codec": {"codes": 512, "same": 1}, "gone": 1}, {"codec": {"codes": 1024, "same": 1}})
    assert lines == ["codec.codes: 512 -> 1024", 'gone: 1 -> "(not set)"']
