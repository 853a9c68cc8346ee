"""`gen sample --dry-run`: what so many samples take, in words; nothing is drawn."""

from __future__ import annotations

PLAN = {
    "folder": "there", "volumes": 33_333, "chunks": 2084, "batch": 16, "files": 66_666, "folders": 10, "shard": "2of3",
    "disk_gib": {"samples": 99.7}, "seconds_each": 0.5, "hours": 4.63, "basis": ["time: measured"],
}  # fmt: skip


def test_the_plan_of_a_shard_is_told(gen, fake_api, monkeypatch):
    from gen_core.run.samples import more

    asked = []
    monkeypatch.setattr(more, "sample_more", lambda *args, **kwargs: asked.append(kwargs) or PLAN)
    told = gen("sample", "--run", "r", "-n", "100000", "--shard", "2/3", "--dry-run").stdout
    assert asked[0]["dry_run"] is True
    assert "samples of shard 2of3: 33333 in 2084 chunks of 16; 66666 files in 10 folders" in told
    assert "disk, samples: about 99.7 GiB" in told and "4 h 37 min in one process" in told
    assert "basis: time: measured" in told


def test_what_is_unknown_is_told_as_unknown(gen, fake_api, monkeypatch):
    from gen_core.run.samples import more

    unknown = {**PLAN, "files": None, "hours": None, "folders": 1, "basis": ["time: unknown"]}
    monkeypatch.setattr(more, "sample_more", lambda *args, **kwargs: unknown)
    told = gen("sample", "--run", "r", "-n", "9", "--dry-run").stdout
    assert "at least 33333 files in one folder" in told and "basis: time: unknown" in told
    assert "time of sampling" not in told
