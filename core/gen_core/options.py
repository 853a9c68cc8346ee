"""Settings of the tables that core itself reads; attrs only, so that a recipe resolves without torch.

A component's own options class is frozen attrs too. A trainable component (codec, prior, features,
segmenter) carries a field `fit: FitOptions`; the defaults given there are kept for keys a recipe leaves out.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from attrs import Factory, field, frozen, validators


def positive(default: Any, **kw: Any) -> Any:
    """An attrs field whose value must be > 0."""
    return field(default=default, validator=validators.gt(0), **kw)


def table_ref(kind: str, default: str = "") -> Any:
    """An attrs field naming another table of the recipe, of `kind`; "" names none. Checked when a recipe resolves."""
    return field(default=default, metadata={"table": kind})


TRAIN_ON = ("real", "synthetic", "both")


def train_on(default: str = "real") -> Any:
    """The field `train_on` of a feature network: which volumes it is fitted on. Anything but "real" waits for samples.

    "both" are the training volumes followed by the samples.
    """
    return field(default=default, validator=validators.in_(TRAIN_ON))


MOST_VOXELS = 1 << 31  # of a volume: beyond it a size is a slip


@frozen
class VolumeOptions:
    """[volume]: what every data set delivers. size (D, H, W); wavelengths_nm: D target bands or none."""

    size: tuple[int, int, int] | None = field(default=None)
    wavelengths_nm: tuple[float, ...] | None = None
    source_size: tuple[int, int, int] | None = None  # (D, H, W) of the source files: for planning only

    @size.validator
    def _check_size(self, attribute: Any, value: tuple[int, int, int] | None) -> None:
        if value is not None and (min(value) < 1 or math.prod(value) > MOST_VOXELS):
            raise ValueError(f"'size' must be three numbers of at least 1 that make at most {MOST_VOXELS} voxels")


@frozen
class SplitOptions:
    """[split]: by subject, seeded. Fractions of the subjects; a single subject is cut into regions with a gap."""

    val: float = field(default=0.25, validator=[validators.ge(0.0), validators.lt(1.0)])
    test: float = field(default=0.0, validator=[validators.ge(0.0), validators.lt(1.0)])
    seed: int = 0
    gap: int = field(default=0, validator=validators.ge(0))  # voxels left out between regions of one subject


METRICS = "metrics."  # what the names of metric tables begin with


@frozen
class FitOptions:
    """[<component>.fit]: how one trainable is fitted."""

    steps: int = positive(1000)  # optimizer steps (of the first group)
    batch: int = positive(4)  # samples a step, over all micro-batches
    # (D, H, W) cut from each volume, 0 = the whole axis; where, is a function of (seed, epoch, index); none = all of it
    crop: tuple[int, int, int] | None = None
    accumulate: int = positive(1)  # micro-batches a step; batch must be divisible by it
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: float = positive(3e-4)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = field(default=0.0, validator=validators.ge(0.0))
    groups: dict[str, dict[str, float]] = Factory(dict)  # e.g. {discriminator = {lr = 1e-4}}
    warmup: int = field(default=0, validator=validators.ge(0))  # steps of linear warm-up
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float = field(default=0.0, validator=validators.ge(0.0))  # gradient norm per group; 0 = off
    ema: float = field(default=0.0, validator=[validators.ge(0.0), validators.lt(1.0)])
    ema_start: int = field(default=0, validator=validators.ge(0))
    ema_every: int = positive(1)
    precision: Literal["float32", "bf16"] = "float32"
    checkpoint_activations: bool = False
    checkpoint_every: int = positive(500)
    validate_every: int = field(default=0, validator=validators.ge(0))  # 0 = only at the end
    validate_volumes: int = positive(64)
    log_every: int = positive(10)
    # "" = the last checkpoint; else the best by the name of a validation value, or by a metric table ("metrics.fid")
    # that scores samples which a prior draws at every validation
    select: str = ""
    select_mode: Literal["min", "max"] = "min"
    select_samples: int = positive(64)  # drawn each time, by the recipe's sampler; only for a metric
    select_steps: int = field(default=20, validator=validators.ge(0))  # of that sampler; 0 = its own default
    workers: int = field(default=0, validator=validators.ge(0))
    # several processes: each holds a part of the weights, gradients, moments and averages, for what fits on no device
    shard: bool = False


@frozen
class EncodeOptions:
    """[encode]: latents are computed once. views: crops/flips of each training volume; batch: volumes at once."""

    views: int = positive(1)
    batch: int = positive(8)
    precision: Literal["float32", "bf16"] = "float32"


@frozen
class TilingOptions:
    """[tiling]: how volumes go through the codec once it is fitted. Only "fast" changes what comes out.

    mode: "auto" tiles exactly what would not fit into memory as a whole; "exact" always; "fast" blends overlapping
    tiles (approximate: each is normalized by itself); "off" never tiles.
    """

    mode: Literal["auto", "exact", "fast", "off"] = "auto"
    tile: tuple[int, int, int] | None = None  # voxels (D, H, W) at once, 0 = the whole axis; none = chosen by memory
    memory_gib: float = field(default=0.0, validator=validators.ge(0.0))  # to work in; 0 = half of what there is
    scratch: str = ""  # folder for activations that memory does not hold; "" = the run's folder
    overlap: int = field(default=32, validator=validators.ge(0))  # voxels that tiles of "fast" have in common

    def __attrs_post_init__(self) -> None:
        if self.tile and (min(self.tile) < 0 or not any(self.tile)):
            raise ValueError(f"tile: {list(self.tile)} must be sizes in voxels, 0 for a whole axis, not all of them 0")


@frozen
class ConditionOptions:
    """[condition.NAME]: what the prior is told of every volume.

    kind: "class" and "scalar" are condition values of the data set, "mask" one of its masks, "volume" the volume
    itself, shrunk to `size` (a cascade: samples take theirs from another run).
    """

    kind: Literal["class", "scalar", "mask", "volume"]
    of: str = ""  # its name in the data set; "" = NAME
    classes: tuple[str, ...] = ()  # names of the classes; only where the data set does not say
    low: float | None = None  # of a scalar: low..high become -1..1; none = the range of the training volumes
    high: float | None = None
    detail: int = positive(1)  # of a mask or volume: cells a latent's edge kept apart, as channels
    size: tuple[int, int, int] | None = None  # of a volume: (D, H, W) it is shrunk to
    noise: float = field(default=0.0, validator=validators.ge(0.0))  # sd added to a shrunk training volume

    def __attrs_post_init__(self) -> None:
        if (self.kind == "volume") != (self.size is not None):
            raise ValueError('size: (D, H, W) goes with kind = "volume", and only with it')
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low: must be below high = {self.high:g}")


@frozen
class SampleOptions:
    """[sample]: n volumes; sample i always runs in chunk i // batch.

    conditions: where the samples' conditions come from. "train", "val": each sample takes those of a volume of that
    split, drawn by its own seed (all of one volume: they fit together); a .csv table with a column a condition, row
    i for sample i, from the top again when it ends; a run's folder: its samples, in order; "none".
    fixed: values that hold for every sample: a class's name, a number, a mask's file; "unknown" leaves it open.
    guidance: w of classifier-free guidance, 1 = none; only for t in guidance_interval.
    spacing: the times a sampler walks along: the path's own ("path": as the prior was made), even in t ("uniform"),
    in the log-SNR ("log-snr"), in the seventh root of the noise level ("edm"). Few steps want one of the latter two.
    """

    n: int = positive(16)
    batch: int = positive(16)
    steps: int = field(default=0, validator=validators.ge(0))  # 0 = the sampler's own default
    clamp: float = field(default=0.0, validator=validators.ge(0.0))  # clamp of z_0 while sampling; 0 = off
    spacing: Literal["path", "uniform", "log-snr", "edm"] = "path"
    # dynamic thresholding of z_0 into [-clamp, clamp] (or [-1, 1]) at this quantile of each sample; 0 = off
    threshold: float = field(default=0.0, validator=[validators.ge(0.0), validators.le(1.0)])
    format: str = "npy"
    seed: int = 0
    precision: Literal["float32", "bf16"] = "float32"
    conditions: str = "train"
    fixed: dict[str, Any] = Factory(dict)
    guidance: float = field(default=1.0, validator=validators.ge(0.0))
    guidance_interval: tuple[float, float] = (0.0, 1.0)


@frozen
class RejectOptions:
    """[evaluate.reject]: samples that one of these metrics finds unfit are set aside before anything is scored.

    by: names of metric tables, such as ["metrics.memorization"]; none keeps every sample. unfiltered: metric tables
    that score all samples once more, rejected ones included, to show what rejecting does.
    """

    by: tuple[str, ...] = field(default=(), metadata={"table": "metric"})
    unfiltered: tuple[str, ...] = field(default=(), metadata={"table": "metric"})


@frozen
class ClassesOptions:
    """[evaluate.classes]: scores once more for each class of a condition.

    of: a condition of kind "class"; metrics: the metric tables that are asked again, class by class.
    """

    of: str = ""
    metrics: tuple[str, ...] = field(default=(), metadata={"table": "metric"})


@frozen
class EvaluateOptions:
    """[evaluate]: how many volumes of each source are scored (0 = all)."""

    volumes: int = field(default=0, validator=validators.ge(0))
    batch: int = positive(8)
    seed: int = 0
    reject: RejectOptions = Factory(RejectOptions)
    classes: ClassesOptions = Factory(ClassesOptions)


def _list_of_values(options: Any, attribute: Any, value: dict[str, Any]) -> None:
    for key, values in value.items():
        if isinstance(values, dict):
            inner = next(iter(values), "")
            raise ValueError(f'{attribute.name}: write the dotted key in quotes: "{key}.{inner}" = [...]')
        if not isinstance(values, list | tuple) or not values:
            raise ValueError(f"{attribute.name}: '{key}' needs a list of at least one value")


@frozen
class SearchOptions:
    """One key of [sweep.search]: a range (of integers where both ends are), or `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False  # even on a logarithmic scale
    choices: tuple[Any, ...] = ()

    def __attrs_post_init__(self) -> None:
        ranged = self.low is not None and self.high is not None and self.low < self.high
        if ranged == bool(self.choices) or (not ranged and (self.low, self.high) != (None, None)):
            raise ValueError("give low < high, or choices")
        if self.log and (not ranged or self.low <= 0):
            raise ValueError("log needs a range above 0")


@frozen
class SweepOptions:
    """[sweep]: runs that differ in a few settings, made by `gen sweep`. No run depends on it.

    grid: dotted key -> values; every combination is a child. cases: name -> settings that go together; each case is
    combined with the grid. exclude: settings (`case` = name too); a child that has all of one entry is left out.
    """

    grid: dict[str, Any] = field(default=Factory(dict), validator=_list_of_values)
    cases: dict[str, dict[str, Any]] = Factory(dict)
    exclude: tuple[dict[str, Any], ...] = ()
    max_children: int = positive(16)
    search: dict[str, SearchOptions] = Factory(dict)  # dotted key -> where --optuna looks


@frozen
class RunOptions:
    """Top-level keys of a recipe beside the tables."""

    name: str = field(default="run")
    seed: int = 0
    device: str = "auto"
    demonstration: str = ""  # why the figures of this recipe are no result; printed in the report

    @name.validator
    def _check_name(self, attribute: Any, value: str) -> None:
        if not value.isprintable() or not 0 < len(value) <= 200 or {"..", ""} & set(value.split("/")):
            raise ValueError("'name' must be a folder's name of at most 200 printable characters, without '..'")
