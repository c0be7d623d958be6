"""What the process of a rank does beside the steps of the engine, and when: read data, wait, save, evaluate."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np

from pipeloom.core.contract.executor import Batches
from pipeloom.core.launch.control.phase_page import PhasePage

#: How an error about a rank that hangs calls a phase, and whether the rank waits for no other one in it. Steps,
#: evaluations and checkpoints are said by the link.
_SAID = {
    "data": ("reading data", True),
    "plugins": ("in plugins", True),
    "wait for the loss": ("waiting for the loss", False),
}
#: Receives a phase that has ended: its name, its begin and its end in nanoseconds of ``time.perf_counter_ns``.
Listener = Callable[[str, int, int], None]


class Phases:
    """The phases of a rank's own work, by name. ``current`` names the one that it is in, ``""`` between them.

    The launcher sees them on ``page``.
    """

    def __init__(self, page: Optional[PhasePage] = None) -> None:
        self.page = page or PhasePage()
        self.current = ""
        #: Called at the end of each phase.
        self.listeners: List[Listener] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Be in the phase ``name`` while this lasts; phases may lie within each other."""
        before, self.current, begin = self.current, name, time.perf_counter_ns()
        seen = self.page.now
        if name in _SAID:
            self.page.enter(*_SAID[name])
        try:
            yield
        finally:
            self.page.enter_again(seen)
            self.current = before
            for listener in self.listeners:
                listener(name, begin, time.perf_counter_ns())


class ReadInPhase(Batches):
    """Batches whose reading is the phase ``data``."""

    def __init__(self, batches: Batches, phases: Phases) -> None:
        self._batches, self._phases, self.absent = batches, phases, batches.absent

    def read(self, step: int, names: Sequence[str], position: int, width: int) -> Dict[str, np.ndarray]:
        with self._phases.phase("data"):
            return self._batches.read(step, names, position, width)

    def __len__(self) -> int:
        return len(self._batches)

    def samples(self, step: int) -> range:
        return self._batches.samples(step)
