"""Memory-mapped arrays read in blocks: pages are handed back, so that memory does not grow with the file."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

BLOCK_BYTES = 16 << 20  # what one block may hold


def new_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A new .npy file mapped for writing, its room on the disk taken now.

    Storing into a map whose page finds no room ends the process without a word; so a full disk is met here.
    Raises: OSError.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    fd = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(fd, 0, os.fstat(fd).st_size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot say
            raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(fd)
    return array


def release(array: np.ndarray) -> None:
    """Hand the resident pages of a memory-mapped array back to the system; other arrays are left alone.

    The content stays: pages are read again (usually from the system's file cache) when they are touched.
    """
    base: object = array
    while base is not None:
        if isinstance(base, mmap.mmap):
            if hasattr(mmap, "MADV_DONTNEED"):
                base.madvise(mmap.MADV_DONTNEED)
            return
        base = getattr(base, "base", None)


def blocks(array: np.ndarray, limit: int = BLOCK_BYTES) -> Iterator[np.ndarray]:
    """Parts of `array` along its first axis in order, each a view of at most `limit` bytes (at least one row).

    The pages behind a part are handed back when the next one is asked for: copy what is kept.
    """
    row = max(1, array[:1].nbytes)
    step = max(1, limit // row)
    for start in range(0, len(array), step):
        yield array[start : start + step]
        release(array)
