"""Malformed recipes, `--set` values, and data sets of damaged files that a recipe names."""

from __future__ import annotations

from collections.abc import Iterator

import fuzz_seeds as seeds
from corpus_case import DATA, INSPECT, PIPE, RECIPE, VALIDATE, Case, one


def _recipe(text: str) -> bytes:
    return b'gen = 1\nname = "a"\n' + text.encode()


def recipes() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str) -> Case:
        return one(f"recipe-{name}", "a.toml", data, *says, command=VALIDATE, code=RECIPE)

    yield bad("empty", b"", "gen: missing")
    yield bad("binary", bytes(range(256)) * 8, "not UTF-8")
    yield bad("utf-16", seeds.RECIPE.encode("utf-16"), "not UTF-8")
    yield bad("zeros", bytes(5000), "not valid TOML")
    yield bad("control", b"gen = 1\n\x1b[31m = 2\n", "a.toml:2", "not valid TOML")
    yield bad("open-text", b'gen = 1\nname = "a\n', "a.toml:2", "not valid TOML")
    yield bad("open-table", b"gen = 1\n[codec\n", "a.toml:2", "not valid TOML")
    yield bad("twice-a-key", b"gen = 1\ngen = 1\n", "not valid TOML")
    yield bad("twice-a-table", _recipe("[volume]\n[volume]\n"), "not valid TOML")
    yield bad("deep-lists", b"gen = 1\nname = " + b"[" * 100_000, "nested")
    yield bad("deep-closed-lists", b"gen = 1\nname = " + b"[" * 5000 + b"]" * 5000, "nested")
    yield bad("deep-tables", b"gen = 1\nname = " + b"{a = " * 50_000, "nested")
    yield bad("deep-key", b"gen = 1\n" + b"a." * 20_000 + b"a = 1\n", "nested")
    yield bad("deep-header", b"gen = 1\n[" + b"a." * 900 + b"a]\n", "nested")
    yield bad("deep-list-value", _recipe("[codec]\nuse = " + "[" * 90 + "]" * 90), "nested")
    yield bad("long", b"# " + b"a" * (5 << 20), "bytes")
    yield bad("many-keys", b"gen = 1\n" + b"".join(b"a%d = 1\n" % n for n in range(90_000)), "keys")
    yield bad("long-number", _recipe("seed = " + "9" * 5000), "not valid TOML")
    yield bad("large-number", _recipe("[sample]\nn = " + "9" * 400), "[sample]", "n =")
    yield bad("infinite", _recipe("[volume]\nsize = [4, 8, 8]\n[split]\nval = inf"), "[split]", "val")
    yield bad("not-a-number", _recipe("[split]\nval = nan"), "[split]", "val")
    yield bad("date", _recipe("[split]\nval = 1979-05-27"), "[split]", "val")
    yield bad("negative", _recipe("[sample]\nn = -5"), "[sample]", "n = -5")
    yield bad("size-zero", _recipe("[volume]\nsize = [0, 8, 8]"), "[volume]", "size")
    yield bad("size-short", _recipe("[volume]\nsize = [8, 8]"), "[volume]", "size", "3")
    yield bad("size-text", _recipe('[volume]\nsize = ["a", "b", "c"]'), "[volume]", "size")
    yield bad("size-huge", _recipe("[volume]\nsize = [1000000, 1000000, 1000000]"), "[volume]", "size")
    yield bad("gen-2", b"gen = 2\n", "a.toml:1", "gen = 2")
    yield bad("gen-true", b"gen = true\n", "gen = True")
    yield bad("gen-text", b'gen = "1"\n', "gen = ")
    yield bad("name-number", b"gen = 1\nname = 3\n", "a.toml:2", "name = 3")
    yield bad("name-path", b'gen = 1\nname = "../../b"\n', "a.toml:2", "name")
    yield bad("name-escape", b'gen = 1\nname = "a\\u001b[31m"\n', "a.toml:2", "name")
    yield bad("name-long", b'gen = 1\nname = "' + b"a" * 9000 + b'"\n', "a.toml:2", "name")
    yield bad("unknown-table", _recipe("[codek]\nuse = 'vqgan'"), "a.toml:3", "[codek]", "did you mean 'codec'")
    yield bad("unknown-key", _recipe("[sample]\nnumber = 3"), "a.toml:4", "[sample]", "number")
    yield bad("unknown-use", _recipe('[codec]\nuse = "vqvea"'), "a.toml:4", "[codec]", "vqvae")
    yield bad("use-number", _recipe("[codec]\nuse = 3"), "a.toml:4", "[codec]", "use = 3")
    yield bad("use-lines", _recipe('[codec]\nuse = "a\\nb\\u001b[2J"'), "[codec]", "use")
    yield bad("use-path", _recipe('[codec]\nuse = "os:system"'), "[codec]", "os:system")
    yield bad("use-long", _recipe(f'[codec]\nuse = "{"v" * 100_000}"'), "[codec]", "use")
    yield bad("key-lines", _recipe('"a\\nb\\u001b[2J" = 1'), "a.toml:3", "no such setting")
    yield bad("key-empty", _recipe('"" = 1'), "a.toml:3", "no such setting")
    yield bad("table-as-value", _recipe("codec = 3"), "a.toml:3", "codec = 3", "table")
    yield bad("value-as-table", _recipe("[sample.n]\na = 1"), "[sample.n]", "integer")
    yield bad("table-list", _recipe("[[codec]]\nuse = 'vqvae'"), "codec", "table")
    yield bad("dotted-name", _recipe('[metrics."a.b"]\nuse = "psnr"'), "a.b", "no dot")
    yield bad("no-such-table", _recipe('[metrics.fid]\nfeatures = "features.absent"'), "[metrics.fid]", "features")
    yield bad("metric-unknown", _recipe("[metrics.nonsense]"), "metrics.nonsense", "nonsense")
    yield bad("base-itself", _recipe('base = "a.toml"'), "base", "circle")
    yield bad("base-absent", _recipe('base = "absent.toml"'), "base", "absent.toml")
    yield bad("base-number", _recipe("base = 3"), "base = 3")
    yield bad("base-folder", _recipe('base = ".."'), "base")
    yield bad("base-zero-byte", _recipe('base = "a\\u0000b"'), "base")
    yield bad("base-long", _recipe(f'base = "{"b" * 5000}"'), "base")
    yield bad("base-device", _recipe('base = "/dev/zero"'), "base")
    yield bad("weights-zero-byte", _recipe('[codec]\nuse = "vqvae"\nfrom = 3'), "[codec]", "from = 3")
    ring = {"a.toml": _recipe('base = "b.toml"'), "b.toml": _recipe('base = "a.toml"')}
    yield Case("recipe-base-ring", ring, (*VALIDATE, "{}/a.toml"), RECIPE, ("base", "circle"))
    bases = {f"{n}.toml": _recipe(f'base = "{n + 1}.toml"') for n in range(200)} | {"200.toml": _recipe("")}
    yield Case("recipe-base-chain", bases, (*VALIDATE, "{}/0.toml"), RECIPE, ("base", "more than"))
    other = {"a.toml": _recipe('base = "b.toml"\n[sample]\nn = "x"'), "b.toml": _recipe('[split]\nval = "y"')}
    yield Case("recipe-both-files", other, (*VALIDATE, "{}/a.toml"), RECIPE, ("a.toml:5", "b.toml:4"), 2)
    yield Case("recipe-pipe", {"a.toml": PIPE}, (*VALIDATE, "{}/a.toml"), RECIPE, ("a.toml",))
    yield Case("recipe-folder", {"a.toml/b": b""}, (*VALIDATE, "{}/a.toml"), RECIPE, ("a.toml",))
    yield Case("recipe-absent", {}, (*VALIDATE, "{}/a.toml"), RECIPE, ("a.toml",))


def data_sets() -> Iterator[Case]:
    """Data sets of recipes, opened; and a plan that nobody could carry out."""
    asked = 'use = "hyperspectral"\nroot = "<here>/data"'
    recipe = seeds.RECIPE.replace('use = "retina-phantom"\nsubjects = 12', asked)
    scans = recipe.replace('"hyperspectral"', '"nifti"')

    def bad(name: str, text: str, files: dict[str, bytes], *says: str) -> Case:
        return Case(f"set-of-{name}", {"r.toml": text.encode(), **files}, (*INSPECT, "{}/r.toml"), DATA, says)

    for kind, text in (("cubes", recipe), ("scans", scans)):
        absent = text.replace("<here>/data", "/absent/folder")
        yield bad(f"{kind}-absent", absent, {}, "dataset.root", "/absent/folder")
        yield bad(f"{kind}-none", text, {"data/readme.txt": b"nothing"}, "dataset.root")
    yield bad("cubes-damaged", recipe, {f"data/{n}.npy": seeds.npy()[:-n] for n in range(1, 5)}, "data/", ".npy")
    yield bad("scans-damaged", scans, {f"data/{n}/a.nii": seeds.nifti()[:-n] for n in range(1, 5)}, "a.nii")
    huge = {"a.toml": seeds.RECIPE.replace("[4, 16, 24]", "[99999, 99999, 99999]").encode()}
    yield Case("run-size-huge", huge, ("run", "{}/a.toml", "--dry-run"), RECIPE, ("a.toml", "size"))


def overrides() -> Iterator[Case]:
    for name, given, says in (
        ("no-value", "codec.fit.steps", "expected key.path=value"),
        ("empty", "=", "expected key.path=value"),
        ("gen", "gen=2", "only be said in a file"),
        ("base", "base=/etc/passwd", "only be said in a file"),
        ("deep", "a." * 5000 + "a=1", "nested"),
        ("deep-value", "sample.n=" + "[" * 5000, "sample"),
        ("wrong", "sample.n=many", "sample"),
        ("lines", 'sample.n="a\nb"', "sample"),
        ("key-lines", '"a\nb"=1', "expected key.path=value"),
    ):
        words = (*VALIDATE, "{}/a.toml", "--set", given)
        yield Case(f"set-{name}", {"a.toml": seeds.RECIPE.encode()}, words, RECIPE, (says,))
