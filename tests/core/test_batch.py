"""Batches: volumes stacked are volumes again, and what is unknown stays unknown."""

import numpy as np

from gen_core.batch import collate, samples_of
from gen_core.volume import Sample


def test_a_batch_taken_apart_is_what_it_was_put_together_from():
    rng = np.random.default_rng(0)
    masks = lambda: {"valid": rng.random((3, 4, 5)) > 0.5, "vessel": rng.random((1, 4, 5)) > 0.5}
    samples = [
        Sample(
            rng.normal(size=(2, 3, 4, 5)).astype("f4"),
            f"v{i}",
            f"s{i}",
            f"h{i}",
            masks=masks(),
            condition={"age": age, "kind": kind},
        )
        for i, (age, kind) in enumerate([(41.5, 1), (float("nan"), 0), (7.25, -1)])
    ]
    again = samples_of(collate(samples))
    for old, new in zip(samples, again, strict=True):
        assert (old.id, old.subject, old.hash) == (new.id, new.subject, new.hash)
        assert np.array_equal(old.x, new.x) and old.masks.keys() == new.masks.keys()
        assert all(np.array_equal(old.masks[k], new.masks[k]) for k in old.masks)
    assert [s.condition for s in again] == [{"age": 41.5, "kind": 1}, {"kind": 0}, {"age": 7.25}]
