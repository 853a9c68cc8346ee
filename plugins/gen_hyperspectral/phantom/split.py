"""The volumes of one split of the retina phantom: read from the cache that holds them, or rendered at each access."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import asdict, evolve
from numpy.typing import NDArray

from gen_core.dataset import Split, view_generator
from gen_core.rendered_cache import Cache
from gen_core.volume import Sample, content_hash
from gen_hyperspectral.phantom.deposits import LABEL, draw_deposits
from gen_hyperspectral.phantom.eye import draw_eye
from gen_hyperspectral.phantom.fields import MASKS
from gen_hyperspectral.phantom.volume import VERSION, render

Key = tuple[int, int]  # subject, visit


class PhantomSplit(Split):
    """Volumes of some subjects; stored ones are checked against their hash when first read, and made anew if bad."""

    def __init__(self, dataset: Any, name: str):
        self.dataset, self.name = dataset, name
        o = dataset.options
        keys = [(s, v) for s in dataset.subjects[name] for v in range(o.volumes_per_subject)]
        self.keys: list[Key] = keys[: dataset.context.limit] if dataset.context.limit else keys
        nbytes = 4 * len(self.keys) * int(np.prod(dataset.size))
        self.cache: Cache | None = None
        if self.keys and nbytes <= o.cache_gib * 2**30:
            folder = dataset.context.cache / "retina-phantom" / f"{name}-{_digest(dataset, self.keys)}"
            self.cache = Cache(folder, (1, *dataset.size), MASKS, len(self.keys), self._render, o.workers)

    def __len__(self) -> int:
        return len(self.keys)

    def _render(self, i: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.bool_]]]:
        return render(self.dataset.options, self.dataset.size, self.dataset.nm, *self.keys[i])

    def __getitem__(self, i: int) -> Sample:
        i = range(len(self.keys))[i]  # IndexError beyond the end, negative from the end
        subject, visit = self.keys[i]
        if self.cache is not None:
            x, masks, digest = self.cache.read(i)
        else:
            x, masks = self._render(i)
            digest = content_hash(x)
        eye = draw_eye(self.dataset.options.seed, subject)
        name = subject_name(subject)
        return Sample(
            x=x,
            id=name if self.dataset.options.volumes_per_subject == 1 else f"{name}-visit{visit}",
            subject=name,
            hash=digest,
            scale=self.dataset.spec.scale,
            masks=masks,
            condition={"age": eye.age, "melanin": eye.melanin, **self._label(subject)},
        )

    def _label(self, subject: int) -> dict[str, np.float32]:
        """1 where the eye has deposits, 0 where not; empty in a data set without that label."""
        found = draw_deposits(self.dataset.options, subject)
        return {} if found is None else {LABEL: np.float32(found.present)}

    def view(self, i: int, draw: int) -> Sample:
        """Volume i, mirrored or not as (seed, i, draw) decides when `augment` has "flip"; masks move along."""
        sample = self[i]
        if "flip" not in self.dataset.options.augment:
            return sample
        if view_generator(self.dataset.context.seed, i, draw).random() < 0.5:
            return sample
        flip: Callable[[NDArray], NDArray] = lambda a: np.ascontiguousarray(a[..., ::-1])
        return evolve(sample, x=flip(sample.x), masks={k: flip(m) for k, m in sample.masks.items()})


def subject_name(subject: int) -> str:
    return f"eye-{subject:05d}"


def _digest(dataset: Any, keys: list[Key]) -> str:
    """Names a cache entry: everything the volumes of a split depend on."""
    o = asdict(dataset.options)
    for name in ("subjects", "augment", "cache_gib", "workers", "volumes_per_subject"):  # keys say which eyes
        del o[name]
    if dataset.options.deposits == 0:  # eyes without them keep the entries they had before there were any
        for name in ("deposits", "deposit_strength", "deposit_spread"):
            del o[name]
    what = {"version": VERSION, "options": o, "size": dataset.size, "nm": dataset.nm, "keys": keys}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]
