"""What the system refuses a run, in one line: a full or failing disk, an unwritable folder, too little memory."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NoReturn

from gen_core.engine.rollback import out_of_memory
from gen_core.errors import RunError

NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this system allows",
}
NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
LOST = {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO}
SMALLER = {  # step -> what makes it need less memory
    "encode": "[encode] batch = 1",
    "sample": "a smaller [sample] batch",
    "reject": "a smaller [evaluate] batch",
    "evaluate": "a smaller [evaluate] batch",
}


def raise_clear(error: OSError, folder: Path) -> NoReturn:
    """A full disk or an unwritable folder is told in one line; other errors go on as they are."""
    where = error.filename or folder
    if error.errno in NO_ROOM:
        raise RunError(f"{where}: {NO_ROOM[error.errno]}; free some space and run the same command again") from error
    if error.errno in NO_RIGHT:
        raise RunError(f"{where}: cannot write here ({error.strerror})") from error
    if error.errno == errno.ENOENT and "temporary directory" in str(error.strerror):  # as `tempfile` says it
        raise RunError(f"no folder for temporary files ({error.strerror}); set TMPDIR to one") from error
    if error.errno in LOST:
        raise RunError(f"{where}: the disk fails ({error.strerror}); run the same command when it is back") from error
    raise error


def raise_smaller(error: RuntimeError | MemoryError, step: str) -> NoReturn:
    """Memory that ran out in a step is told in one line, with what to lower; other errors go on as they are."""
    if not out_of_memory(error):
        raise error
    smaller = SMALLER.get(step, "a smaller volume or network")
    raise RunError(f"{step}: out of memory; try {smaller}, and run the same command again") from error
