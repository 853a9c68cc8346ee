"""Nothing here needs a network: the suite is refused one, and a whole run opens no socket and unpickles nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = "192.0.2.1"  # TEST-NET-1, RFC 5737: no machine has it
TRACE = """
import json, os, sys

WATCHED = ("socket.", "pickle.", "marshal.load", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen",
           "ctypes.dlopen", "ftplib.", "http.", "smtplib.", "urllib.", "webbrowser.", "ssl.")

def told(event, arguments):
    if event.startswith(WATCHED) and not event.startswith("marshal.loads"):
        with open(os.environ["GEN_TRACE"], "a") as file:
            file.write(json.dumps([event, repr(arguments)[:200]]) + "\\n")

sys.addaudithook(told)
"""


@pytest.mark.parametrize(
    "reach",
    [
        lambda s: s.connect((ELSEWHERE, 80)),
        lambda s: s.connect_ex((ELSEWHERE, 80)),
        lambda s: socket.create_connection((ELSEWHERE, 80), timeout=1),
        lambda s: socket.getaddrinfo("example.org", 80),
        lambda s: socket.gethostbyname("example.org"),
        lambda s: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"x", ("2001:db8::1", 53)),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed")
def test_a_test_that_reaches_out_is_refused(reach):
    with socket.socket() as s, pytest.raises(RuntimeError, match="tests reach no network"):
        reach(s)


def test_this_machine_may_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=10) as client, server.accept()[0] as peer:
            client.sendall(b"here")
            assert peer.recv(4) == b"here"
    a, b = socket.socketpair()
    with a, b:
        a.sendall(b"x")
        assert b.recv(1) == b"x"


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """What a run of recipes/tiny.toml did, as the interpreter's audit events tell it: [(event, arguments), ...]."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / "sitecustomize.py").write_text(TRACE)
    trace = folder / "trace.jsonl"
    env = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "GEN_TRACE": str(trace),
        "OMP_NUM_THREADS": "1",
        "GEN_PLUGINS": "off",
    }
    small = ["codec.fit.steps=4", "prior.fit.steps=4", "sample.n=4", "dataset.subjects=8"]
    sets = [word for line in small for word in ("--set", line)]
    words = ["run", str(ROOT / "recipes" / "tiny.toml"), "--out", str(folder / "run"), *sets]
    out = subprocess.run(
        [sys.executable, "-m", "gen_cli.main", *words], capture_output=True, text=True, env=env, cwd=folder
    )
    assert out.returncode == 0, out.stdout + out.stderr
    assert (folder / "run" / "report.html").exists()
    assert trace.exists(), "the trace was not on: no library was loaded, says it"
    return [json.loads(line) for line in trace.read_text().splitlines()]


def test_a_whole_run_opens_no_socket(events):
    assert any(event == "ctypes.dlopen" for event, _ in events)  # torch loads libraries: the trace works
    reaching = ("socket.", "http.", "urllib.", "ftplib.", "smtplib.", "ssl.", "webbrowser.")
    assert [e for e in events if e[0].startswith(reaching) and e[0] != "socket.gethostname"] == []


def test_a_whole_run_unpickles_nothing_and_starts_no_program(events):
    starting = ("pickle.", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "marshal.load")
    # `uname` tells Python's platform module what cost.json says of the machine
    assert [e for e in events if e[0].startswith(starting) and "'uname'" not in e[1]] == []
