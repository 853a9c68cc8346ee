"""The light scan that finds the line of a key in TOML."""

from __future__ import annotations

import pytest
import tomli

from gen_core.recipe.places import key_lines, split_key

TEXT = '''\
# comment with a = 1 in it
gen = 1
name = "a # b = [ { "  # more
"quoted.key" = 'lit # eral'

[ codec . fit ]   # header
batch = 1
groups = { discriminator = { lr = 1e-4 }, "a b".c = [1, {d = 2}] }
list = [
  1,  # [codec]
  [2, 3],
  "]",
]
text = """
fake = 1
[fake]
quote \\""" still ""inside"" """
other = \'\'\'
fake = 2 \'\'\'
last = true
[metrics."ms-ssim"]
window.size = 3
[[runs]]
a = 1
'''


def test_every_key_is_found_on_its_line():
    tomli.loads(TEXT)  # the test's own text is right
    lines = key_lines(TEXT)
    row = lambda start: next(n for n, line in enumerate(TEXT.splitlines(), 1) if line.startswith(start))
    assert lines[("gen",)] == row("gen")
    assert lines[("name",)] == row("name")
    assert lines[("quoted.key",)] == row('"quoted')
    assert lines[("codec",)] == lines[("codec", "fit")] == row("[ codec")
    assert lines[("codec", "fit", "batch")] == row("batch")
    assert lines[("codec", "fit", "groups", "discriminator", "lr")] == row("groups")
    assert lines[("codec", "fit", "groups", "a b", "c")] == row("groups")
    assert lines[("codec", "fit", "list")] == row("list")
    assert lines[("codec", "fit", "text")] == row("text")
    assert lines[("codec", "fit", "other")] == row("other")
    assert lines[("codec", "fit", "last")] == row("last")
    assert lines[("metrics", "ms-ssim", "window", "size")] == row("window")
    assert lines[("runs", "a")] == row("a = 1")
    assert not [key for key in lines if "fake" in key]


def test_every_key_that_tomli_reads_is_found():
    def keys(data, at=()):
        for name, value in data.items():
            yield (*at, name)
            if isinstance(value, dict):
                yield from keys(value, (*at, name))

    data = tomli.loads(TEXT)
    data.pop("runs")  # a list of tables
    assert set(keys(data)) <= set(key_lines(TEXT))


def test_a_text_without_keys_has_none():
    assert key_lines("") == {} and key_lines("# only a comment") == {}


def test_a_dotted_key_is_split_with_its_quotes():
    assert split_key("codec.fit.steps") == ("codec", "fit", "steps")
    assert split_key('metrics."a.b" . c') == ("metrics", "a.b", "c")
    for wrong in ("", "a b", "a.", ".a", "a = 1"):
        with pytest.raises(ValueError, match="dotted key"):
            split_key(wrong)
