"""Settings of the cube writers."""

from __future__ import annotations

from attrs import field, frozen, validators


@frozen
class NpyWriter:
    """One .npy a volume (axes D, H, W) and a JSON sidecar."""


@frozen
class EnviWriter:
    """ENVI header and band-sequential float32 data."""


@frozen
class Hdf5Writer:
    """One HDF5 file a volume."""

    dataset: str = field(default="cube", validator=validators.min_len(1))  # name of the array in the file
    compression: int = field(default=0, validator=[validators.ge(0), validators.le(9)])  # gzip level; 0 = none
