"""A rank's connection to its launcher: it reports steps and long phases, and receives when to stop.

To stop, all ranks must make the same last step: one that leaves earlier lets the others hang in it. An ordinary
step costs one small message and no wait. When the job is to stop, the launcher sends ``hold``; a rank answers with the
step that it has begun, and waits before any later one until the largest answer comes back: that step is the last one.
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
from pipeloom.core.launch.control.channel import decode_message, encode_message
from pipeloom.core.launch.control.phase_page import PhasePage
from pipeloom.core.launch.control.signals import OF_A_RANK


class RankLink:
    """What a rank sends to its launcher and receives from it. Without a launcher of ours it does nothing.

    ``stop_after`` is the last step to make, once that is known; ``begin_step`` makes all ranks stop before the same
    step. Messages are read on a daemon thread, so that the launcher gets an answer while the engine works.
    """

    def __init__(
        self, sock: Optional[socket.socket] = None, stop_at: Optional[int] = None, page: Optional[PhasePage] = None
    ):
        """``stop_at``: a last step that is known from the start, the same on all ranks."""
        self.page = page or PhasePage()
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
        """Return the link over the socket that the environment names. The variable is removed: children get no link."""
        number, page = os.environ.pop(CONTROL_FD, ""), PhasePage.from_environment()
        if not number.isdigit():
            return cls(None, stop_at, page)
        try:
            os.set_inheritable(int(number), False)
            return cls(socket.socket(fileno=int(number)), stop_at, page)
        except OSError:  # not what the launcher opened
            return cls(None, stop_at, page)

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def begin_step(self, step: int) -> bool:
        """Return whether a step (counted from 1) is to be made; called before each, on the main thread.

        ``False`` comes on all ranks before the same step. Waits while the ranks agree on that.
        """
        if self._begun == 0 and self.connected:
            self._forward_signals()
        with self._change:
            while self._hold_after is not None and step > self._hold_after and self.connected:
                self.page.enter("waiting for the step after which all stop")
                self._change.wait()
            if self.stop_after is not None and step > self.stop_after:
                return False
            first, self._begun = self._begun == 0, step
        self.page.enter("compiling, and its first step" if first else "making the step")
        self._send({"event": "step", "step": step}, may_drop=True)
        return True

    def busy(self, what: str, seconds: float) -> None:
        """Announce that ``what`` begins and may take ``seconds`` without a step, so that it counts as no hang."""
        self.page.enter(what)
        self._send({"event": "busy", "what": what, "seconds": seconds})

    def _send(self, message: Dict[str, Any], may_drop: bool = False) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            with self._sending:
                if may_drop:  # a launcher that sleeps (Ctrl-Z) must not stop the ranks
                    sock.send(encode_message(message), socket.MSG_DONTWAIT)
                else:
                    sock.sendall(encode_message(message))
        except BlockingIOError:
            pass
        except OSError:
            self._lose()

    def _listen(self) -> None:
        sock, signals, waiting = self._socket, self._signals, b""
        assert sock is not None and signals is not None
        while True:
            ready = select.select([sock, signals], [], [])[0]
            if signals in ready:
                for number in OF_A_RANK & {*signals.recv(64)}:
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
                self._obey(decode_message(line) or {})

    def _obey(self, message: Dict[str, Any]) -> None:
        if "exit" in message:
            if self._begun == 0:
                return  # SIGTERM still does what the rank has chosen
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError, RuntimeError):
                    pass
            os._exit(message["exit"])
        with self._change:
            if "hold" in message:
                self._hold_after = self._begun
                self._send({"event": "answer", "step": self._begun})
            elif "proceed_to" in message and self._hold_after is not None:
                # Another rank has begun this step already, so that it will be made; holding here could keep that one
                # from answering, if it waits for this rank inside the engine.
                self._hold_after = max(self._hold_after, message["proceed_to"])
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

    def _forward_signals(self) -> None:
        """Forward signals that request a stop to the launcher, which decides about it from now on.

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
