"""How a command ends when something goes wrong: one clear message on stderr and the right exit code.

0 done; 2 usage or recipe; 3 missing extra, weights or plugin; 4 data; 5 run failed; 75 stopped, resumable;
130 interrupted at once (a second Ctrl-C, or one outside a run). The traceback is shown with --debug only.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from gen_core.errors import GenError, RunError

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
UNEXPECTED = RunError.exit_code

_debug = False


def show_traces(on: bool) -> bool:
    """Callback of --debug."""
    global _debug
    _debug = _debug or on
    return on


class Guarded(TyperGroup):
    """The outermost group: turns every exception of a command into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        global _debug
        try:
            return super().invoke(ctx)
        except GenError as error:
            # of several processes that leave for one reason, the first tells it
            fail("" if getattr(error, "told", False) else str(error) or type(error).__name__, error.exit_code)
        except KeyboardInterrupt:
            fail("interrupted", INTERRUPTED)
        except BrokenPipeError:
            _leave_quietly()
        except SystemExit as error:  # none of ours: typer ends by its own Exit
            fail(f"a component ended the program (SystemExit: {error.code}); what is written so far stays", UNEXPECTED)
        except RuntimeError as error:
            # typer's own Exit and Abort are RuntimeErrors; they go on as they are
            if isinstance(error, (typer.Exit, typer.Abort)):
                raise
            _unexpected(error)
        except Exception as error:
            if hasattr(error, "exit_code") and hasattr(error, "format_message"):
                raise  # a usage error: typer prints it with the command's usage line
            _unexpected(error)
        finally:
            _debug = False


def fail(message: str, code: int) -> None:
    """Print the message to stderr and end with `code`; with --debug the trace comes first."""
    if _debug:
        traceback.print_exc()
    if message:
        print(message, file=sys.stderr)
    raise typer.Exit(code)


def _unexpected(error: Exception) -> None:
    """Anything that is no GenError is our fault: one line, and how to see more."""
    said = " ".join(str(error).split())
    said = said if len(said) <= 300 else said[:297] + "..."
    hint = "" if _debug else " (the same command with --debug shows the trace)"
    fail(f"unexpected {type(error).__name__}: {said or 'no message'}{hint}", UNEXPECTED)


def _leave_quietly() -> None:
    """The reader of our output went away (`gen runs list | head`): nothing is wrong, nothing more can be said."""
    with contextlib.suppress(OSError, ValueError):  # a stdout without a file descriptor has nothing to flush
        out = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out)  # what is still buffered must not be written into the closed pipe at exit
        os.close(nowhere)
    raise typer.Exit(0)
