"""Malformed NIfTI files where a cube is expected: headers that lie, streams that end, bombs, several data sets."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import fuzz_seeds as seeds
from corpus_case import DATA, PIPE, Case, damaged

READ = ("read-cube", "nifti-cube")


def nifti_cubes() -> Iterator[Case]:
    def bad(name: str, data: bytes, *says: str, file: str = "a.nii", **beside: bytes) -> Case:
        return Case(f"cube-{name}", {file: data, **beside}, (*READ, f"{{}}/{file}"), DATA, (file, *says))

    def good(name: str, data: bytes, file: str = "a.nii") -> Case:
        return Case(f"cube-{name}", {file: data}, (*READ, f"{{}}/{file}"), 0)

    for kind, file, data in (
        ("cube", "a.nii", seeds.nifti()),
        ("cube-2", "a.nii", seeds.nifti(big=True, two=True)),
        ("cube-gz", "a.nii.gz", seeds.nifti(True)),
    ):
        for case in damaged(kind, file, data):
            yield Case(case.name, case.files, (*READ, case.words[-1]), DATA, case.says)
    set_ = lambda **fields: seeds.nifti(**fields)
    dims = lambda *values: [*values, *[1] * (8 - len(values))]
    for name, values in {
        "none": dims(0, 7, 5, 3), "nine": dims(9, 7, 5, 3), "negative-count": dims(-3, 7, 5, 3),
        "zero": dims(3, 7, 0, 3), "negative": dims(3, 7, -5, 3), "most-negative": dims(3, -32768, -32768, 3),
    }.items():  # fmt: skip
        yield bad(f"dims-{name}", set_(dim=values), "'dim")
    yield bad("dims-negative-2", seeds.nifti(two=True, dim=dims(3, -(2**63), 5, 3)), "'dim'")
    yield bad("dims-huge", set_(dim=[7] + [32767] * 7), "promises")
    yield bad("dims-huge-2", seeds.nifti(two=True, dim=[7] + [2**62] * 7), "promises")
    yield bad("dims-four", set_(dim=[4, 3, 5, 7, 2, 1, 1, 1], datatype=2), "'dim'", "three axes")
    for name, code in (
        ("none", 0),
        ("unknown", 3),
        ("complex", 32),
        ("colour", 128),
        ("long-double", 1536),
        ("bits", 1),
    ):
        yield bad(f"type-{name}", set_(datatype=code), "'datatype'")
    for name, offset in (("huge", 1e30), ("nan", float("nan")), ("inf", float("inf")), ("negative", -1e9)):
        yield bad(f"offset-{name}", set_(vox_offset=offset), "'vox_offset'")
    yield bad("offset-beyond", set_(vox_offset=1e9), "promises")
    yield bad("inter", set_(scl_slope=1, scl_inter=float("inf")), "'scl_inter'")
    yield bad("inter-nan", set_(scl_slope=2, scl_inter=float("nan")), "'scl_inter'")
    yield good("slope-nan", set_(scl_slope=float("nan"), scl_inter=7))  # no scaling, as the format says of 0
    yield good("slope-huge", set_(scl_slope=3e38, scl_inter=-3e38))
    yield good("pixdim-nan", set_(pixdim=[float("nan")] * 8))  # cubes have no place
    pair = bytearray(seeds.nifti())
    for name, magic in (("pair", b"ni1\0"), ("magic", b"nope"), ("magic-lines", b"\n\x1b[2")):
        pair[344:348] = magic
        yield bad(name, bytes(pair), "'magic'")
    packed = lambda **fields: gzip.compress(seeds.nifti(**fields), mtime=0)
    yield bad("gz-lies", packed(dim=[7] + [32767] * 7), "promises", file="a.nii.gz")
    yield bad("gz-short", packed(dim=dims(3, 90, 50, 3)), "too early", file="a.nii.gz")
    yield bad("gz-wrong-sum", seeds.nifti(True)[:-8] + bytes(8), file="a.nii.gz")
    yield bad("gz-nested", gzip.compress(seeds.nifti(True), mtime=0), "not a NIfTI", file="a.nii.gz")
    head = seeds.nifti(dim=dims(3, 1000, 1000, 350))[:352]
    yield bad("bomb", gzip.compress(head, mtime=0) + seeds.gz_zeros(1432), "times", file="a.nii.gz")
    far = seeds.nifti(vox_offset=float(1 << 30))[:352]
    yield bad("bomb-before", gzip.compress(far, mtime=0) + seeds.gz_zeros(1100), "times", file="a.nii.gz")
    yield Case("cube-several", _set({f"data/{n}.nii": seeds.nifti()[: -n or None] for n in range(4)}),
               ("data", "inspect", "{}/r.toml"), DATA, ("1.nii",))  # fmt: skip
    yield bad("sidecar-pipe", seeds.nifti()[:90], **{"a.json": PIPE})


def _set(files: dict[str, bytes]) -> dict[str, bytes]:
    """A data set of cubes."""
    asked = 'use = "hyperspectral"\nroot = "<here>/data"'
    text = seeds.RECIPE.replace('use = "retina-phantom"\nsubjects = 12', asked).replace("[4, 16, 24]", "[3, 4, 4]")
    return {"r.toml": text.encode(), **files}
