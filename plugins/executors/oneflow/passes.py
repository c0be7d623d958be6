"""Which operations of a graph make the forward pass, and which the backward pass."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Dict, Iterator, Optional

from oneflow.framework import c_api_util


class TracedPasses:
    """Which operations were traced forward, and which by the backward pass."""

    def __init__(self) -> None:
        #: Whether anybody will ask.
        self.wanted = False
        self._of: Dict[str, str] = {}

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Call this around the backward pass, while the graph is traced."""
        self._add("forward")
        yield
        self._add("backward")

    def of(self, name: str) -> Optional[str]:
        """Return ``"forward"`` or ``"backward"``; ``None`` for what came later or was not traced."""
        return self._of.get(name)

    def _add(self, which: str) -> None:
        if not self.wanted:
            return
        for operation in c_api_util.GetCurrentJob().net.op:
            self._of.setdefault(operation.name, which)
