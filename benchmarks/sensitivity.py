"""Which metric sees which fault: phantom eyes, five severities of five faults, every metric that needs no codec.

    OMP_NUM_THREADS=1 python benchmarks/sensitivity.py          # 64 pixels, 64 + 64 eyes; writes docs/metrics.md
    OMP_NUM_THREADS=1 python benchmarks/sensitivity.py --quick  # 32 pixels, 24 + 24 eyes; prints only

The samples are phantom eyes that no split shares, that is a perfect sampler, made worse step by step; blurred, noisy
and shifted validation eyes play the reconstructions. A score should move away from where it stands without a fault
at each step. Metrics come from the registry, with a random-conv64 and a pixel-logistic fitted here.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from gen_core.batch import Batch, collate
from gen_core.dataset import DatasetContext
from gen_core.errors import GenError
from gen_core.features import FeaturesContext
from gen_core.metric import Metric, Value
from gen_core.options import SplitOptions, VolumeOptions
from gen_core.registry import Registry
from gen_core.segmenter import SegmenterContext
from gen_core.trainable import Step

SEVERITIES = 5
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
MARKERS = ("<!-- sensitivity: begin -->", "<!-- sensitivity: end -->")
QUICKER = {  # settings that differ from the defaults, for time
    "ms-ssim": {"pairs": 48, "volumes": 64},
    "hyperspectral-fid": {"triplets": 16, "extrapolate": False},
    "fid": {"extrapolate": False},
    "memorization": {"planted": 16},
}


# faults: (clean samples, severity 0..5, world) -> samples; none at severity 0, drawn by fixed seeds


def blur(x: Tensor, severity: int) -> Tensor:
    """Gaussian of .3, .6, ... pixels in the image plane; edges repeated."""
    if severity == 0:
        return x
    at = torch.arange(-4, 5, dtype=x.dtype)
    taps = torch.exp(-0.5 * (at / (0.3 * severity)) ** 2)
    flat = torch.nn.functional.pad(x.flatten(0, 2)[:, None], (4, 4, 4, 4), mode="replicate")
    for shape in ((1, 1, 9, 1), (1, 1, 1, 9)):
        flat = conv2d(flat, (taps / taps.sum()).reshape(shape))
    return flat.reshape(x.shape)


def noise(x: Tensor, severity: int) -> Tensor:
    """White noise of sd .02, .04, ... of the range [-1, 1]; the same draw at every severity."""
    if severity == 0:
        return x
    g = torch.Generator().manual_seed(11)
    return (x + 0.02 * severity * torch.randn(x.shape, generator=g)).clamp(-1, 1)


def band_shift(x: Tensor, severity: int) -> Tensor:
    """Every spectrum moved by .25, .5, ... bands, between bands linearly; the last band repeated."""
    place = (torch.arange(x.shape[2]) + 0.25 * severity).clamp(max=x.shape[2] - 1)
    low = place.floor().long()
    share = (place - low)[:, None, None]
    return x[:, :, low] * (1 - share) + x[:, :, (low + 1).clamp(max=x.shape[2] - 1)] * share


def mode_dropping(x: Tensor, severity: int, pool: Tensor) -> Tensor:
    """Only the 100, 82, 64, ... % darkest eyes of a pool occur, as many as before."""
    if severity == 0:
        return x
    g = torch.Generator().manual_seed(12)
    order = pool.mean((1, 2, 3, 4)).argsort()[: max(len(x), round(len(pool) * (1 - 0.16 * severity)))]
    return pool[order[torch.randperm(len(order), generator=g)[: len(x)]]]


def copying(x: Tensor, severity: int, train: Tensor) -> Tensor:
    """18, 36, ... % of the samples are training eyes with noise of sd .01."""
    n, x = round(0.18 * severity * len(x)), x.clone()
    g = torch.Generator().manual_seed(13)
    x[:n] = (train[:n] + 0.01 * torch.randn(x[:n].shape, generator=g)).clamp(-1, 1)
    return x


FAULTS = ("blur", "noise", "band shift", "mode dropping", "copying")
PLAIN: dict[str, Callable[[Tensor, int], Tensor]] = {"blur": blur, "noise": noise, "band shift": band_shift}


@attrs.frozen(eq=False)
class World:
    """Batches of one volume set each; `pool` holds more clean samples than the sampler's `clean`.

    Parts are made once, so that metrics share the features that are remembered with each batch.
    """

    train: Batch
    val: Batch
    clean: Tensor
    pool: Tensor
    made: dict[tuple[str, str, int], list[Batch]] = attrs.Factory(dict)

    def parts(self, source: str, fault: str = "", severity: int = 0) -> list[Batch]:
        """A source with this fault in batches of eight; none where the source cannot have it."""
        key = (source, fault if severity else "", severity)
        if source == "reconstruction" and fault not in PLAIN:
            return []
        if key not in self.made:
            real = {"train": self.train, "val": self.val}
            make = self.samples if source == "synthetic" else self.reconstructions
            batch = real[source] if source in real else make(fault, severity)
            self.made[key] = [batch.part(i, i + 8) for i in range(0, len(batch), 8)]
        return self.made[key]

    def samples(self, fault: str, severity: int) -> Batch:
        """The sampler's volumes with this fault."""
        if fault in PLAIN:
            x = PLAIN[fault](self.clean, severity)
        elif fault == "mode dropping":
            x = mode_dropping(self.clean, severity, self.pool)
        else:
            x = copying(self.clean, severity, self.train.x)
        ids = [f"sample-{i:06d}" for i in range(len(x))]
        return Batch(x.contiguous(), ids=ids, subjects=ids, hashes=ids)

    def reconstructions(self, fault: str, severity: int) -> Batch:
        """Validation with this fault, one of `PLAIN`."""
        return attrs.evolve(self.val, x=PLAIN[fault](self.val.x, severity).contiguous(), reference=self.val.x)


Key = tuple[str, str, str]  # metric, value, source


def scores(
    make: Callable[[], Metric], world: World, faults: tuple[str, ...] = FAULTS
) -> dict[tuple[str, int], list[Value]]:
    """(fault, severity) -> values, of metrics built afresh; what is real is read once and merged."""
    real = make()
    for source in ("train", "val"):
        feed(real, world.parts(source), source)
    found: dict[tuple[str, int], list[Value]] = {}
    for fault in faults:
        for severity in range(SEVERITIES + 1):
            metric = make()
            for source in ("synthetic", "reconstruction"):
                feed(metric, world.parts(source, fault, severity), source)
            metric.merge(real)
            found[fault, severity] = metric.compute().values
    return found


def feed(metric: Metric, batches: list[Batch], source: str) -> None:
    """Give the metric a source, where it wants it."""
    if source in metric.sources:
        for batch in batches:
            metric.update(batch, source)


def away(value: Value) -> float:
    """How bad a score is: rising for "lower", falling for "higher", away from the floor for "match"."""
    if value.better == "match":
        return abs(value.value - (value.floor or 0.0))
    return value.value if value.better == "lower" else -value.value


def verdict(series: list[Value]) -> str:
    """What a row of severities 0..5 shows: "rises" or "falls" at each step, "seen", "wrong way", or "-".

    Seen: at the highest severity worse than without the fault by more than the interval's half width.
    """
    bad = [away(v) for v in series]
    first, last = series[0], series[-1]
    if all(b > a for a, b in zip(bad, bad[1:])):
        return "rises" if last.value > first.value else "falls"
    half = (first.high - first.low) / 2 if first.low is not None and first.high is not None else 0.0
    margin = max(half, 0.05 * abs(first.value))
    if bad[-1] - bad[0] > margin:
        return "seen"
    return "wrong way" if bad[0] - bad[-1] > margin else "-"


def rows(name: str, found: dict[tuple[str, int], list[Value]]) -> dict[Key, dict[str, str]]:
    """(metric, value, source) -> fault -> verdict, for values that have a direction and are there at every severity."""
    series: dict[tuple[Key, str], list[Value]] = {}
    for (fault, _), values in found.items():
        for v in values:
            # a score against reconstructions would compare a fault with itself
            if v.source in ("synthetic", "reconstruction") and v.better and v.against != "reconstruction":
                series.setdefault(((name, v.name, v.source), fault), []).append(v)
    table: dict[Key, dict[str, str]] = {}
    for (key, fault), of in series.items():
        if len(of) == SEVERITIES + 1:
            table.setdefault(key, {})[fault] = verdict(of)
    return table


def markdown(table: dict[Key, dict[str, str]], note: str) -> str:
    """The table of verdicts, one line a score; an empty cell: that source cannot have the fault."""
    lines = [note, "", f"| metric | score | {' | '.join(FAULTS)} |", "| --- " * (2 + len(FAULTS)) + "|"]
    for (metric, name, source), cells in table.items():
        score = name if source == "synthetic" else f"{name} (reconstruction)"
        lines.append(f"| `{metric}` | {score} | {' | '.join(cells.get(f, '') for f in FAULTS)} |")
    return "\n".join(lines)


def phantom(folder: Path, size: int, train: int, val: int, pool: int) -> tuple[World, Any]:
    """The world of phantom eyes of `size` pixels, and its spec."""
    total = train + val + pool
    context = DatasetContext(
        VolumeOptions((16, size, size)), SplitOptions(val=val / total, test=pool / total), 0, folder
    )
    component = Registry.load(allow="off").get("dataset", "retina-phantom")
    dataset = component.build(component.options_class()(subjects=total), context)
    dataset.prepare(SimpleNamespace(update=lambda *_: None))
    train_, val_, test = (collate(list(dataset.split(name))) for name in ("train", "val", "test"))
    return World(train_, val_, test.x[: len(val_)], test.x), dataset.spec


def fitted_segmenter(registry: Registry, spec: Any, train: Batch, steps: int) -> Any:
    """A pixel-logistic after a few plain Adam steps."""
    component = registry.get("segmenter", "pixel-logistic")
    segmenter = component.build(component.options_class()(), SegmenterContext(spec))
    adam = torch.optim.Adam(segmenter.parameters(), lr=0.15)
    g = torch.Generator().manual_seed(0)
    for i in range(steps):
        start = 8 * i % (len(train) - 7)
        adam.param_groups[0]["lr"] = 0.15 * (1 - i / steps)
        for group in segmenter.training_step(train.part(start, start + 8), Step(i, 0, steps, g, torch.device("cpu"))):
            adam.zero_grad()
            sum(group.losses.values()).backward()
            adam.step()
    return segmenter.eval().requires_grad_(False)


def main() -> None:
    quick = "--quick" in sys.argv
    size, train, val, pool = (32, 48, 24, 48) if quick else (64, 128, 64, 192)
    registry, table, left_out, begun = Registry.load(allow="off"), {}, [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        world, spec = phantom(Path(folder), size, train, val, pool)
        embedding = registry.get("features", "random-conv64")
        network = embedding.build(embedding.options_class()(), FeaturesContext(spec))
        segmenter = fitted_segmenter(registry, spec, world.train, 60 if quick else 250)
        counts = {"train": len(world.train), "val": len(world.val), "synthetic": len(world.clean)}
        context = SimpleNamespace(
            spec=spec, seed=0, device=None, counts=counts, cache=Path(folder), cost={}, real_splits_disjoint=True,
            features=lambda table: network, segmenter=lambda table: segmenter, codec=None, prior=None, prepared={},
        )  # fmt: skip
        for name in registry.names("metric"):
            component, start = registry.get("metric", name), time.perf_counter()
            options = component.options_class()(**QUICKER.get(name, {}))
            try:
                make = lambda component=component, options=options: component.build(options, context)
                needs = {"codec", "prior"} & set(make().needs)
                found = {} if needs else rows(name, scores(make, world))
            except (GenError, TypeError) as error:  # asks for what this world lacks, or cannot be merged
                needs, found = {type(error).__name__}, {}
                print(f"{name}: {error}", file=sys.stderr)
            if not found:
                left_out.append(name)
            table |= found
            print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    note = (
        f"`python benchmarks/sensitivity.py{' --quick' * quick}`: {len(world.val)} validation and "
        f"{len(world.clean)} synthetic eyes (phantom, {size} pixels), features of random-conv64. `rises`, `falls`: "
        f"away from the faultless score at every one of five severities; `seen`: at the highest by more than the "
        f"interval's half width; `-`: not seen; `wrong way`: the fault looks like an improvement. "
        f"Left out: {', '.join(left_out) or 'none'}."
    )
    text = markdown(table, note)
    print(text)
    print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)
    if not quick:
        write_between(DOCUMENT, text)


def write_between(path: Path, text: str) -> None:
    """Replace what stands between the markers of a document."""
    before, rest = path.read_text().split(MARKERS[0])
    _, after = rest.split(MARKERS[1])
    path.write_text(f"{before}{MARKERS[0]}\n{text}\n{MARKERS[1]}{after}")


if __name__ == "__main__":
    main()
