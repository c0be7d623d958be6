"""JSON objects, one a line, over a connected stream socket, without ever waiting."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from typing import Any, Dict, List, Mapping

_LONGEST_LINE = 1 << 20


class Channel:
    """Messages over ``sock``, which it owns.

    ``closed`` becomes true when the other side has gone, or has sent what is no message; what came before that
    is still given out. Sending (from any thread) after that does nothing: the reader finds out, once, in one place.
    """

    def __init__(self, sock: socket.socket):
        sock.setblocking(False)
        self._socket = sock
        self._incoming, self._outgoing = b"", b""
        self._sending = threading.Lock()
        self.closed = False

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue ``message`` and send what the socket takes; the rest goes with the next ``send`` or ``receive``."""
        with self._sending:
            self._outgoing += encode_message(message)
            self._flush()

    def receive(self) -> List[Dict[str, Any]]:
        """The messages that have come since the last call, in order."""
        with self._sending:
            self._flush()
        while not self.closed:
            try:
                data = self._socket.recv(65536)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            self._incoming += data
            if not data:
                self.closed = True
        *lines, self._incoming = self._incoming.split(b"\n")
        messages = []
        for line in lines:
            message = decode_message(line)
            if message is None:
                self.closed = True
                break
            messages.append(message)
        if len(self._incoming) > _LONGEST_LINE:
            self.closed = True
        return messages

    def finish(self, seconds: float = 1.0) -> None:
        """Close after the other side has taken what was sent, or after ``seconds``.

        A plain ``close`` with unread input resets the connection, and the other side loses the last message.
        """
        deadline = time.monotonic() + seconds
        try:
            while self._outgoing and not self.closed and time.monotonic() < deadline:
                select.select([], [self._socket], [], max(0.0, deadline - time.monotonic()))
                with self._sending:
                    self._flush()
            self._socket.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline:
                if select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[
                    0
                ] and not self._socket.recv(65536):
                    break
        except (OSError, ValueError):
            pass
        self.close()

    def close(self) -> None:
        self.closed = True
        self._socket.close()

    def _flush(self) -> None:
        while self._outgoing and not self.closed:
            try:
                self._outgoing = self._outgoing[self._socket.send(self._outgoing) :]
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # gone: what it said before is still to be read, and then ``receive`` sees the end
                self._outgoing = b""


def encode_message(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("utf-8") + b"\n"


def decode_message(line: bytes) -> Any:
    """The object in ``line``, or ``None`` when it is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
