"""The engine: fit loop, data order, seeds, checkpoints, precision and devices.

from gen_core.engine.fit import fit
from gen_core.engine.source import SplitSource, TensorSource, split_batches
from gen_core.engine.checkpoint import load_weights, init_weights
"""
