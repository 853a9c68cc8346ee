"""Image files as Pillow opens them: whatever a damaged one raises is one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gen_core.errors import DataError, GenError
from gen_hyperspectral.cubes.layout import one_line

# what Pillow may take a file for, whatever its name says: EPS, for one, it hands to another program
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "PPM", "WEBP", "JPEG2000")
GREY = {"1": 1.0, "L": 255.0, "LA": 255.0, "I;16": 65535.0, "I;16B": 65535.0, "I;16L": 65535.0, "I": 65535.0}
"""Pillow's modes of images without colour -> their white. Pillow widens some 16-bit files to "I"."""


@contextmanager
def opened(path: Path, what: str) -> Iterator[Any]:
    """The PIL.Image, not yet unpacked: hold its size against what is expected before that.

    what: "mask", for the message. Errors inside are those of the file. Raises: DataError naming the file.
    """
    from PIL import Image  # late: only images need it

    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except GenError:
        raise
    except Exception as error:  # Pillow raises whatever its decoders do: SyntaxError, struct.error, KeyError, ...
        raise DataError(f"{path}: {what} cannot be read: {one_line(error) or type(error).__name__}") from None
