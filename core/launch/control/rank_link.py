"""The rank's end of its line to the launcher: steps begun, how long a phase may take, and when to stop together.

To stop, all ranks must make the same last step: one that leaves earlier lets the others hang in it. An ordinary
step costs one small message and no wait. When the job is to stop, the launcher asks every rank which step it has begun;
from its answer on a rank holds before any later step, until the largest answer comes back: that step is the last one.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from typing import Any, Dict, Optional

from pipeloom.core.base.variables import CONTROL_FD
from pipeloom.core.launch.control.channel import decode, encode
from pipeloom.core.launch.control.signals import OF_A_RANK


class RankLink:
    """What a rank tells its launcher, and what it hears. Without a launcher of ours it is inert.

    ``stop_after`` is the last step to make, once that is known; ``begin_step`` says the same in a way on which all
    ranks agree. Messages are read on a daemon thread, so that the launcher gets an answer while the engine works.
    """

    def __init__(self, sock: Optional[socket.socket] = None, stop_at: Optional[int] = None):
        """``stop_at``: a last step that is known from the start, the same on all ranks."""
        self.stop_after = stop_at
        self._socket = sock
        self._sending = threading.Lock()
        self._change = threading.Condition()
        self._begun = 0
        self._hold_after: Optional[int] = None  # while an agreement is under way
        self._signals: Optional[socket.socket] = None
        if sock is not None:
            self._signals, self._wakeup = socket.socketpair()
            self._wakeup.setblocking(False)
            threading.Thread(target=self._listen, name="rank link", daemon=True).start()

    @classmethod
    def from_environment(cls, stop_at: Optional[int] = None) -> "RankLink":
        """The link over the socket that the environment names. The variable is used up: children get no link."""
        number = os.environ.pop(CONTROL_FD, "")
        if not number.isdigit():
            return cls(None, stop_at)
        try:
            os.set_inheritable(int(number), False)
            return cls(socket.socket(fileno=int(number)), stop_at)
        except OSError:  # not what the launcher opened
            return cls(None, stop_at)

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def begin_step(self, step: int) -> bool:
        """To be called before each step (counted from 1), on the main thread; whether the step is to be made.

        ``False`` comes on all ranks before the same step. Waits while the ranks agree on that.
        """
        if self._begun == 0 and self.connected:
            self._take_signals()
        with self._change:
            while self._hold_after is not None and step > self._hold_after and self.connected:
                self._change.wait()
            if self.stop_after is not None and step > self.stop_after:
                return False
            self._begun = step
        self._send({"event": "step", "step": step}, may_drop=True)
        return True

    def busy(self, what: str, seconds: float) -> None:
        """``what`` begins now and may take ``seconds``, in which no step begins: nobody shall call that a hang."""
        self._send({"event": "busy", "what": what, "seconds": seconds})

    def _send(self, message: Dict[str, Any], may_drop: bool = False) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            with self._sending:
                if may_drop:  # a launcher that sleeps (Ctrl-Z) must not stop the ranks
                    sock.send(encode(message), socket.MSG_DONTWAIT)
                else:
                    sock.sendall(encode(message))
        except BlockingIOError:
            pass
        except OSError:
            self._lose()

    def _listen(self) -> None:
        sock, waiting = self._socket, b""
        while True:
            ready = select.select([sock, self._signals], [], [])[0]
            if self._signals in ready:
                for number in OF_A_RANK & {*self._signals.recv(64)}:
                    self._send({"event": "signal", "number": int(number)})
            if sock not in ready:
                continue
            try:
                data = sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                return self._lose()
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                self._obey(decode(line) or {})

    def _obey(self, message: Dict[str, Any]) -> None:
        if "leave" in message:
            if self._begun == 0:
                return  # SIGTERM still does what the rank has chosen
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError, RuntimeError):
                    pass
            os._exit(message["leave"])
        with self._change:
            if "ask" in message:
                self._hold_after = self._begun
                self._send({"event": "answer", "step": self._begun})
            elif "go" in message and self._hold_after is not None:
                # Another rank has begun this step already, so that it will be made; holding here could keep that one
                # from answering, if it waits for this rank inside the engine.
                self._hold_after = max(self._hold_after, message["go"])
            elif "stop_after" in message:
                self.stop_after = (
                    message["stop_after"] if self.stop_after is None else min(self.stop_after, message["stop_after"])
                )
                self._hold_after = None
            self._change.notify_all()

    def _lose(self) -> None:
        with self._change:
            self._socket = None
            self._change.notify_all()

    def _take_signals(self) -> None:
        """From now on the launcher decides when to stop: a signal that asks for it is handed on to it.

        The number of a signal comes through a socket that the interpreter writes to as soon as the signal arrives,
        while a handler would wait for the end of what the main thread does in the engine.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in (*OF_A_RANK, signal.SIGINT):
            before = signal.getsignal(number)

            def handle(received: int, frame: Any, before: Any = before) -> None:
                if not self.connected and callable(before):
                    before(received, frame)

            signal.signal(number, handle)
