"""Settings every test shares: one thread, so that test processes do not fight for cores; no network."""

import ipaddress
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).parent / "harness"))

REACHING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
ASKING = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}


class NetworkUsed(RuntimeError):
    """A test reached for a machine that is not this one."""


def _here(host: object) -> bool:
    """Whether an address is of this machine alone."""
    if host in (None, "", "localhost", b"localhost", "localhost.localdomain"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        import socket

        return host in (socket.gethostname(), socket.gethostname().encode())  # an address of our own


def _refuse(event: str, arguments: tuple) -> None:
    if event in REACHING:
        address = arguments[1] if len(arguments) > 1 else None
        if isinstance(address, tuple) and address and not _here(address[0]):
            raise NetworkUsed(f"{event} to {address}: tests reach no network")
    elif event in ASKING:
        host = arguments[0][0] if arguments and isinstance(arguments[0], tuple) else (arguments or [None])[0]
        if not _here(host):
            raise NetworkUsed(f"{event} asks for {host}: tests reach no network")


sys.addaudithook(_refuse)


@pytest.fixture(scope="session")
def zygote():
    """A process that forks one child a `gen` command; see tests/harness/zygote.py."""
    from zygote import Zygote

    with Zygote() as process:
        yield process


@pytest.fixture(scope="session")
def whole(zygote, tmp_path_factory):
    """The small run without any interruption, and the trace of its file operations."""
    from small_run import Uninterrupted

    return Uninterrupted(zygote, tmp_path_factory.mktemp("whole"))
