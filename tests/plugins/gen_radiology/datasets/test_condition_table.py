"""Tables of conditions: delimiters, keys, unknown values, and every message."""

import math

import pytest

from gen_core.errors import DataError
from gen_radiology.datasets.condition_table import read_table


@pytest.fixture
def table(tmp_path):
    def write(text, name="t.csv", scalars=("age",), classes=None):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_table(path, scalars, {"grade": ("low", "high")} if classes is None else classes)

    return write


def test_numbers_and_classes_are_found_by_subject(table):
    for delimiter in ",;\t":
        rows = ["subject,age,grade,note", "p1,61.5,high,x", "", "p2,NA,,y", "p3,3,low,z"]
        found = table("\r\n".join(rows).replace(",", delimiter))
        assert found.of("any", "p1") == {"age": 61.5, "grade": 1} and found.of("any", "p3")["grade"] == 0
        unknown = found.of("any", "p2")
        assert math.isnan(unknown["age"]) and unknown["grade"] == -1
        assert found.of("any", "p9") is None and math.isnan(found.unknown()["age"]) and found.unknown()["grade"] == -1


def test_a_row_by_id_goes_before_one_by_subject(table):
    found = table("id,subject,age,grade\n,p1,50,low\nscan-2,p1,51,high\n")
    assert found.of("scan-1", "p1")["age"] == 50 and found.of("scan-2", "p1") == {"age": 51, "grade": 1}


def test_classes_without_names_are_those_of_the_column(table):
    found = table("id,grade\na,III\nb,I\nc,?\nd,I\n", scalars=(), classes={"grade": ()})
    assert found.classes == {"grade": ("I", "III")} and found.of("a", "")["grade"] == 1
    assert found.of("c", "")["grade"] == -1


def test_quotes_and_a_byte_order_mark_are_read(table):
    found = table(b'\xef\xbb\xbfid,grade,age\n"a,1",high,"7"\n')
    assert found.of("a,1", "") == {"age": 7.0, "grade": 1}


@pytest.mark.parametrize(
    "text, message",
    [
        ("name,age,grade\na,1,low\n", r"t.csv: the table needs a column 'id' or 'subject', it has name, age, grade"),
        ("id,grade\na,low\n", r"t.csv: dataset.table has no column 'age', it has id, grade"),
        ("id,age,grade\na,old,low\n", r"t.csv: line 2: age is 'old', expected a number"),
        ("id,age,grade\na,inf,low\n", r"line 2: age is 'inf', expected a number"),
        ("id,age,grade\na,1,low\n\nb,1,middling\n", r"line 4: grade is 'middling', expected one of low, high"),
        ("id,age,grade\na,1,low\na,2,low\n", r"line 3: id 'a' stands in two rows"),
        ("id,age,grade\n,1,low\n", r"line 2 has no id"),
        ("id,age,grade\na,1\n", r"line 2 has 2 cells, the header 3"),
        ("id,age,age\na,1,1\n", r"column 'age' is there twice"),
        ("\n\n", r"dataset.table is empty"),
        (b"\xff\xfe\x00id", r"no UTF-8 text"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_with_its_line(table, text, message):
    with pytest.raises(DataError, match=message):
        table(text)


def test_a_missing_table_is_told(tmp_path):
    with pytest.raises(DataError, match=r"absent.csv: dataset.table cannot be read: No such file"):
        read_table(tmp_path / "absent.csv", (), {})
