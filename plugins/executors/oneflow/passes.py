"""Which operations of a graph make the forward pass, and which the backward pass."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Set

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
        self._add("forward", self._new())
        yield
        made = self._new()
        # The backward pass begins with the gradient of the loss. What does not come of it (a constant, a mask that is
        # spread) waits for no gradient, and runs as soon as the forward pass has made what it reads.
        late = _made_of(made[:1], made)
        self._add("backward", [operation for operation in made if operation.name in late])
        self._add("forward", made)

    def of(self, name: str) -> Optional[str]:
        """Return ``"forward"`` or ``"backward"``; ``None`` for what came later or was not traced."""
        return self._of.get(name)

    def _new(self) -> List[Any]:
        """Return the operations traced since the last time, in the order of tracing."""
        traced = c_api_util.GetCurrentJob().net.op if self.wanted else ()
        return [operation for operation in traced if operation.name not in self._of]

    def _add(self, which: str, operations: List[Any]) -> None:
        for operation in operations:
            self._of.setdefault(operation.name, which)


def _made_of(first: List[Any], operations: List[Any]) -> Set[str]:
    """Return the names of ``first`` and of those among ``operations``, in the order of tracing, that need them."""
    names = {operation.name for operation in first}
    for operation in operations:
        read = (blob.rsplit("/", 1)[0] for values in operation.user_conf.input.values() for blob in values.s)
        if any(producer in names for producer in read):
            names.add(operation.name)
    return names
