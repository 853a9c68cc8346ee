"""The subject of a file, told by its stem, a part of its path, or an expression."""

from pathlib import PurePosixPath as Path

import pytest

from gen_core.errors import DataError
from gen_hyperspectral.cubes.subjects import subject_of

SCAN = Path("site/p07/eye_left.nii.gz")


@pytest.mark.parametrize(
    "how, expected",
    [("", "eye_left"), ("0", "site"), ("1", "p07"), ("-1", "eye_left"), ("-2", "p07"), (r"p(\d+)/", "07")],
)
def test_the_subject_is_the_stem_a_part_of_the_path_or_a_group(how, expected):
    assert subject_of(SCAN, how) == expected


@pytest.mark.parametrize(
    "how, said",
    [
        ("3", "has no such part"),
        ("(", "no regular expression"),
        ("p07", "finds no group"),
        (r"q(\d+)", "finds no group"),
    ],
)
def test_what_names_no_subject_is_one_line_with_its_key(how, said):
    with pytest.raises(DataError, match=rf"dataset.subject = .*{said}") as caught:
        subject_of(SCAN, how)
    assert "\n" not in str(caught.value)
