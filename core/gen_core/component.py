"""One registered component: strings that are resolved on use, and what goes wrong then told in one sentence.

The code of another distribution is kept from changing what others rely on, each time that it is imported or builds
something: see `contained`. That guards against accidents; who installs a package trusts its code.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib import metadata
from typing import Any

from attrs import frozen

from gen_core.errors import GenError, MissingError

OWN = "gen-imaging"  # our own distribution
REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # "package.module:name"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+\-]*")  # no dots: recipes address tables as kind.name
IMPORTED_AS = {
    # where the name to import is not the name to install
    "faiss": "faiss-cpu",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "cv2": "opencv-python",
    "yaml": "pyyaml",
}


@frozen
class Component:
    """One registered component. `options` and `builder` are "module:name" strings, resolved on use.

    version: the component's integer version, part of every fingerprint. module: the plugin module that
    registered it. distribution, distribution_version: the pip package it came with.
    """

    kind: str
    name: str
    options: str
    builder: str
    version: int
    summary: str
    module: str
    distribution: str
    distribution_version: str

    @property
    def owner(self) -> str:
        """Distribution and plugin module, for messages."""
        return f"{self.distribution} {self.distribution_version} ({self.module})"

    @property
    def what(self) -> str:
        """Kind, name and owner, for messages."""
        return f"{self.kind} '{self.name}' of {self.owner}"

    def options_class(self) -> type:
        """The frozen attrs class of its settings. Raises: MissingError."""
        import attrs

        found = self._resolve(self.options)
        if not (isinstance(found, type) and attrs.has(found)):
            raise MissingError(f"{self.what}: its options, {self.options}, are no attrs class")
        return found

    def build(self, options: Any, context: Any) -> Any:
        """Import the component and build it.

        Raises: MissingError naming the extra that is not installed, or what is wrong with a stranger's component.
        """
        make = self._resolve(self.builder)
        try:
            with self._contained():
                return make(options, context)
        except ModuleNotFoundError as error:
            raise self._missing(error) from error
        except SystemExit as error:
            raise MissingError(f"{self.what} {said(error)} when it is built") from error
        except (GenError, MemoryError):
            raise
        except Exception as error:
            if normal_name(self.distribution) == OWN:
                raise
            raise MissingError(f"{self.what} cannot be built: {said(error)}") from error

    def _resolve(self, reference: str) -> Any:
        module, _, attribute = reference.partition(":")
        try:
            with self._contained():
                return getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise self._missing(error) from error
        except AttributeError as error:
            raise MissingError(f"{self.what}: {error}") from error
        except GenError:
            raise
        except (Exception, SystemExit) as error:
            raise MissingError(f"{self.what} cannot be imported: {said(error)}") from error

    def _contained(self) -> Any:
        return nullcontext() if normal_name(self.distribution) == OWN else contained(self.what)

    def _missing(self, error: ImportError) -> MissingError:
        package = (error.name or "").partition(".")[0]
        if not isinstance(error, ModuleNotFoundError) or not package or package == self.module.partition(".")[0]:
            return MissingError(f"{self.what} cannot be imported: {error}")
        extra = _extra_with(self.distribution, package)
        if extra:
            install = f'pip install "{self.distribution}[{extra}]" (extra `{extra}`)'
        else:
            install = f"pip install {IMPORTED_AS.get(package, package)}"
        return MissingError(f"{self.what} needs '{package}', which is not installed: {install}")


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Around a stranger's code: prints go to stderr, and what it changes for everyone is put back and told.

    That is the working directory, signal handlers, and torch's default dtype, default device and grad mode. Random
    generators need no guard: every step seeds its own.
    """
    before = state()
    try:
        with redirect_stdout(sys.stderr):  # stdout may be a JSON document
            yield
    finally:
        changed = changes(before)
        for name in changed:
            before[name][1]()
        if changed:
            warnings.warn(f"{what} changed {' and '.join(changed)}: put back", RuntimeWarning, stacklevel=3)


State = dict[str, tuple[Any, Callable[[], Any]]]


def changes(before: State) -> list[str]:
    """What is not as it was."""
    now = state()
    return [name for name, (was, _) in before.items() if name in now and now[name][0] != was]


def state() -> State:
    """What a plugin may not change for everyone: name -> how it is now, and how to come back to it."""
    found: State = {}

    def hold(name: str, now: Any, put_back: Callable[[], Any]) -> None:
        found[name] = (now, put_back)

    try:
        here = os.getcwd()
        hold("the working directory", here, lambda: os.chdir(here))
    except OSError:  # removed under us
        pass
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGPIPE, signal.SIGALRM):
            handler = signal.getsignal(number)
            put_back = lambda n=number, h=handler: signal.signal(n, signal.SIG_DFL if h is None else h)
            hold(f"the handler of {number.name}", handler, put_back)
    torch = sys.modules.get("torch")  # where it is not loaded yet, what it starts with
    loaded = lambda: sys.modules["torch"]
    dtype = torch.get_default_dtype() if torch else None
    hold("torch's default dtype", str(dtype or "torch.float32"), lambda: _set_dtype(dtype))
    device = str(torch.get_default_device()) if torch else "cpu"
    hold("torch's default device", device, lambda: loaded().set_default_device(device))
    grad = torch.is_grad_enabled() if torch else True
    hold("torch's grad mode", grad, lambda: loaded().set_grad_enabled(grad))
    return found


def _set_dtype(dtype: Any) -> None:
    torch = sys.modules["torch"]
    torch.set_default_dtype(dtype or torch.float32)


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """ "; did you mean 'x'?" with the nearest of `names`, or "" when none is near."""
    import difflib  # on mistakes only

    by_lower = {n.lower(): n for n in names}
    near = difflib.get_close_matches(word.lower(), list(by_lower), 1, 0.6)
    return f"; did you mean '{by_lower[near[0]]}'?" if near else ""


def said(error: BaseException) -> str:
    """An exception in one short line; the end of the program in words."""
    if isinstance(error, SystemExit):
        return f"ends the program (SystemExit: {error.code})"
    return f"{type(error).__name__}: {shortened(str(error))}"


def shortened(text: str, length: int = 160) -> str:
    """One line of at most `length` characters, of those that can be printed."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= length else line[: length - 3] + "..."


def normal_name(name: str) -> str:
    """A distribution's name as pip compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _extra_with(distribution: str, package: str) -> str:
    """The extra of `distribution` that installs `package`, or ""."""
    try:
        requires = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return ""
    wanted = {normal_name(package), normal_name(IMPORTED_AS.get(package, package))}
    extras = []
    for line in requires:
        required = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if required and extra and normal_name(required[0]) in wanted:
            extras.append(extra[1])
    return next((e for e in extras if e != "test"), "")
