"""A socket between each process and the first: who ends without a word is noticed at once, and a stop is heard by all.

Collective operations notice a dead peer only while they wait for it. The operating system closes the sockets of a
process however it dies, so a second thread that reads one knows in milliseconds, whatever the main thread does. It
lets the main thread end by itself, and ends the process when that is held up.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading

from gen_core.engine.stop import StopFlag

GRACE = 2.5  # seconds the main thread has to notice by itself that a process is lost
CONNECT = 300.0  # seconds for the sockets to be made
LOST, FAILED = "lost", "failed"  # words between processes
LOST_CODE = 5  # what a process ends with that its main thread cannot end


class Lifeline:
    """Of one process. `lost` says which process ended without a word, or failed where none could leave; or is "".

    stop: the flag that a stop of any process raises in all.
    """

    def __init__(self, rank: int, world: int, stop: StopFlag) -> None:
        self.rank, self.world, self._stop = rank, world, stop
        self.lost = ""
        self.lost_now = threading.Event()
        self._closed = False
        self._peers: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._said: set[str] = set()
        self._server: socket.socket | None = None

    def listen(self) -> tuple[int, str]:
        """In the first process: (port, token) that the others connect with."""
        self._server = socket.create_server(("", 0), backlog=self.world)
        self._token = secrets.token_hex(16)
        return self._server.getsockname()[1], self._token

    def accept(self) -> None:
        """In the first process: wait for all others. Raises: OSError when one does not come."""
        assert self._server is not None
        self._server.settimeout(CONNECT)
        while len(self._peers) < self.world - 1:
            peer, _ = self._server.accept()
            peer.settimeout(CONNECT)
            token, _, rank = _line(peer).partition(" ")
            if secrets.compare_digest(token, self._token) and rank.isdecimal():
                self._peers[int(rank)] = peer
            else:
                peer.close()
        self._server.close()
        self._watch()

    def connect(self, host: str, port: int, token: str) -> None:
        """In every other process. Raises: OSError."""
        peer = socket.create_connection((host, port), CONNECT)
        peer.sendall(f"{token} {self.rank}\n".encode())
        self._peers[0] = peer
        self._watch()

    def _watch(self) -> None:
        for rank, peer in self._peers.items():
            peer.settimeout(None)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            threading.Thread(target=self._listen, args=(rank, peer), daemon=True).start()
        threading.Thread(target=self._relay, daemon=True).start()

    def _relay(self) -> None:
        """Tell the others of a stop that was asked of this process."""
        self._stop.raised.wait()
        self._say(f"stop {self._stop.requested}")

    def ask_stop(self, reason: str) -> None:
        """Ask all processes for a stop, this one too."""
        self._stop.request(reason)
        self._say(f"stop {reason}")

    def _say(self, line: str) -> None:
        with self._lock:
            if self._closed or line in self._said:
                return
            self._said.add(line)
            for peer in self._peers.values():
                try:
                    peer.sendall(f"{line}\n".encode())
                except OSError:
                    continue  # its own thread sees that it is gone

    def _listen(self, rank: int, peer: socket.socket) -> None:
        while line := _line(peer):
            word, _, rest = line.partition(" ")
            if word == "stop":
                self._stop.request(rest)
                if self.rank == 0:
                    self._say(line)
            elif word in (LOST, FAILED):
                self._mourn(word, rest)
            elif word == "bye":
                return
        if not self._closed:
            self._mourn(LOST, f"process {rank} of {self.world}")

    def fail(self, message: str) -> None:
        """Tell all others that this process ends, where they wait for it in an operation they cannot leave."""
        said = " ".join(message.split()).encode("ascii", "replace").decode()[:600]
        self._say(f"{FAILED} process {self.rank} of {self.world}: {said}")

    def _mourn(self, word: str, who: str) -> None:
        if self.lost or self._closed:
            return
        without = f"{who} ended without a word (killed, or out of memory); the same command goes on from here"
        self.lost = who if word == FAILED else without
        self.lost_now.set()
        if self.rank == 0:
            self._say(f"{word} {who}")
        timer = threading.Timer(GRACE, self._end)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        if not self._closed:
            print(self.lost, file=sys.stderr, flush=True)
            os._exit(LOST_CODE)

    def close(self) -> None:
        """Say good-bye: what happens to the others from now on is not this process's business."""
        self._say("bye")
        with self._lock:
            self._closed = True
            for peer in self._peers.values():
                peer.close()


def _line(peer: socket.socket) -> str:
    """The next line, without its end; "" when there is none any more. Lines are short and rare."""
    data = b""
    while not data.endswith(b"\n"):
        try:
            piece = peer.recv(1)
        except OSError:
            return ""
        if not piece or len(data) > 1000:
            return ""
        data += piece
    return data.decode("utf-8", "replace").strip()
