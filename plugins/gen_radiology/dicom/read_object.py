"""DICOM objects by pydicom: whole or refused, and whatever is damaged in them told in one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gen_core.errors import DataError, MissingError
from gen_radiology.dicom.cut_off import breaks_off


def need_pydicom() -> None:
    """Raises: MissingError. Asked once a folder, so that the answer does not hang on what the files hold."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise MissingError("reading DICOM needs pydicom: pip install 'gen-imaging[dicom]'") from None


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Whatever pydicom meets in a damaged file becomes a DataError of one line; its warnings and log are off."""
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # its decoders log whole tracebacks before they raise
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, MissingError):
        raise
    except Exception as error:  # many kinds, for elements that are not what their VR says
        raise DataError(f"{path}: damaged DICOM file: {type(error).__name__}: {one_line(error)}") from None
    finally:
        log.setLevel(level)


def read_object(path: Path) -> Any:
    """A DICOM file as a pydicom data set. Raises: DataError for none, or one that is cut off; MissingError."""
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
    except ImportError:
        raise MissingError("DICOM needs pydicom: pip install 'gen-imaging[dicom]'") from None
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            data = pydicom.dcmread(path)
    except InvalidDicomError:
        raise DataError(f"{path}: not a DICOM file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from None
    if breaks_off(path) or any("end of file" in str(w.message) for w in told):  # pydicom gives what there is
        raise DataError(f"{path}: the file ends too early (cut off?)")
    return data


def one_line(value: object, limit: int = 120) -> str:
    """Text of a file, fit for a message of one line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= limit else text[:limit] + "..."
