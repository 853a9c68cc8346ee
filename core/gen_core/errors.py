"""The errors a user can cause or meet: each knows its exit code and prints as one clear message."""

from __future__ import annotations


class GenError(Exception):
    """A failure that is told to the user in one message; `exit_code` is what the command ends with."""

    exit_code = 5


class UsageError(GenError):
    """A wrong command line or call."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that cannot be run; `problems` holds one line each: file, line, key, expected, nearest name."""

    def __init__(self, problems: str | list[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class MissingError(GenError):
    """A missing extra, weights file or plugin."""

    exit_code = 3


class DataError(GenError):
    """Data that cannot be read or used; the message names the file and the key."""

    exit_code = 4


class RunError(GenError):
    """A run that failed: NaN loss, no memory, no disk space, a dead worker, a folder in use."""

    exit_code = 5


class Stopped(GenError):
    """A run that was asked to stop and left a checkpoint: the same command goes on from there."""

    exit_code = 75
