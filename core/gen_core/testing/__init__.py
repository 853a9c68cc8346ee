"""The contract of each kind as a check that anyone's tests can call: `check_codec(codec, x)` and so on.

A check raises AssertionError with one sentence that says what is wrong, and returns nothing when all is well.
"""

from gen_core.testing.data import check_dataset, check_reader, check_writer
from gen_core.testing.diffusion import LinearPath, check_path, check_sampler, gaussian_denoise
from gen_core.testing.scores import EmptyRun, check_metric, check_report
from gen_core.testing.trackers import check_tracker
from gen_core.testing.trainables import (
    check_codec,
    check_features,
    check_prior,
    check_segmenter,
    check_trainable,
)

__all__ = [
    "EmptyRun",
    "LinearPath",
    "check_codec",
    "check_dataset",
    "check_features",
    "check_metric",
    "check_path",
    "check_prior",
    "check_reader",
    "check_report",
    "check_sampler",
    "check_segmenter",
    "check_tracker",
    "check_trainable",
    "check_writer",
    "gaussian_denoise",
]
