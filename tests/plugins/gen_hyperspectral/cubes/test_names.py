"""Stems and the order of file names."""

from gen_hyperspectral.cubes.names import natural, stem_of


def test_stems_and_natural_order(tmp_path):
    assert [stem_of(tmp_path / n) for n in ("a.nii.gz", "a.b.npy", "a.zarr", "a")] == ["a", "a.b", "a", "a"]
    names = ["band10", "band2", "Band1", "band02", "x"]
    assert sorted(names, key=natural) == ["Band1", "band02", "band2", "band10", "x"]
