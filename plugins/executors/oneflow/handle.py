"""Parameters as blocks hand them to operations, and the tensors behind them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable, Iterator, Optional

import oneflow as flow


class Handle:
    """Stand for a parameter in a block. Its tensor is known while the module that holds it runs alone.

    For nn.Graph traces a parameter only as an attribute of the proxy that stands for a module while that is run; it
    would take one that it meets elsewhere for a constant.
    """

    def __init__(self, name: str, held: flow.nn.Parameter) -> None:
        self.name, self.held, self.shape = name, held, tuple(held.shape)
        self._read: Optional[Callable[[], flow.Tensor]] = None

    @property
    def tensor(self) -> flow.Tensor:
        """Return the parameter as operations compute with it. Raises ``RuntimeError`` outside of its block's call."""
        if self._read is None:
            raise RuntimeError(f"the parameter '{self.name}' is used outside of the call of its block")
        return self._read()

    @contextmanager
    def bound(self, read: Callable[[], flow.Tensor]) -> Iterator[None]:
        """Let ``read`` give the tensor while this lasts."""
        before, self._read = self._read, read
        try:
            yield
        finally:
            self._read = before


def tensor_of(weight):
    """Return the tensor of what a block handed to an operation: a ``Handle``, or what was computed of one."""
    return weight.tensor if isinstance(weight, Handle) else weight
