"""Tables of text: every delimiter, line ends and quotes; what is no table is one line."""

from __future__ import annotations

import pytest

from gen_core import table_file
from gen_core.errors import DataError
from gen_core.table_file import named, read_cells


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_cells_come_with_the_numbers_of_their_lines(tmp_path, delimiter, end):
    lines = [["id", "a name"], ["1", '"x""y"'], ["", ""], [" 2 ", '"z, w; v"']]
    text = "\ufeff" + end.join(delimiter.join(line) for line in lines) + end
    (tmp_path / "a.csv").write_bytes(text.encode())
    header, rows = read_cells(tmp_path / "a.csv", "the table")
    assert header == ["id", "a name"]
    assert rows == [(2, ["1", 'x"y']), (4, ["2", "z, w; v"])]


BAD = {
    "empty": (b"", "the table is empty"),
    "blank": (b"\n ,\n", "the table is empty"),
    "latin": b"id\n\xe9\n",
    "ragged": (b"id,a\n1,2\n1,2,3\n", "line 3 has 3 cells, the header 2"),
    "short": (b"id,a\n1\n", "line 2 has 1 cells, the header 2"),
    "twice": (b'"a\nb\x1b",c,"a\nb\x1b"\n', "column 'a b?' is there twice"),
    "long": (b'id\n"' + b"x" * 200_000 + b'"\n', "the table is no CSV: field larger than field limit"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_table_is_one_line_that_names_the_file(tmp_path, kind):
    data, says = BAD[kind] if isinstance(BAD[kind], tuple) else (BAD[kind], "the table is no UTF-8 text")
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(DataError) as told:
        read_cells(tmp_path / "a.csv", "the table")
    assert str(told.value).startswith(f"{tmp_path / 'a.csv'}: ") and says in str(told.value)
    assert str(told.value).isprintable()


def test_a_file_that_is_missing_a_folder_or_too_large_is_no_table(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("id\n1\n")
    for path, says in ((tmp_path / "b.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(DataError, match=says):
            read_cells(path, "the table")
    monkeypatch.setattr(table_file, "MAX_BYTES", 4)
    with pytest.raises(DataError, match="the table has more than 0 MiB"):
        read_cells(tmp_path / "a.csv", "the table")


def test_many_columns_are_named_in_part():
    assert len(named([f"column {i}" for i in range(100_000)])) == 400 and named(["a", "b\n"]) == "a, b"
