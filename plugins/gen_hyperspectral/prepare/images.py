"""Image files as Pillow opens them: what a header promises is bounded, whatever a damaged one raises is one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gen_core.errors import DataError, GenError
from gen_hyperspectral.cubes.layout import one_line
from gen_hyperspectral.cubes.limits import check_ratio

MOST_PIXELS = 64 << 20  # more are no photograph of an eye; Pillow itself would warn from 89 million on
PIXEL_BYTES = 16  # three bytes as they come, three planes of float32
GREY = {"1": 1.0, "L": 255.0, "LA": 255.0, "I;16": 65535.0, "I;16B": 65535.0, "I;16L": 65535.0, "I": 65535.0}
"""Pillow's modes of images without colour -> their white. Pillow widens some 16-bit files to "I"."""


@contextmanager
def opened(path: Path, what: str) -> Iterator[Any]:
    """The PIL.Image, not yet unpacked; errors inside are those of the file. what: "mask", for the message.

    Raises: DataError naming the file.
    """
    from PIL import Image  # late: only images need it

    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(f"{path}: {what} of {width} x {height} pixels: more than {MOST_PIXELS} in all")
            check_ratio(path, what, width * height * PIXEL_BYTES, path.stat().st_size)
            yield image
    except GenError:
        raise
    except Exception as error:  # Pillow raises whatever its decoders do: SyntaxError, struct.error, KeyError, ...
        raise DataError(f"{path}: {what} cannot be read: {one_line(error) or type(error).__name__}") from None
