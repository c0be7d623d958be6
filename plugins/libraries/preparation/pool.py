"""The same function over many inputs in worker processes: results in the order of the inputs, few of them in memory at
once.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Callable, Deque, Iterable, Iterator, Optional

from pipeloom.core.base.errors import RunError
from pipeloom.core.launch.processes import die_with

#: For an interrupt the workers are not asked: they end with the main process.
_MASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ordered_map(
    workers: int, make: Callable[..., Callable[[Any], Any]], arguments: tuple, inputs: Iterable[Any]
) -> Iterator[Any]:
    """What ``make(*arguments)`` makes of each of ``inputs``, in their order.

    Each worker makes its own function once; with 0 workers all happens here. Not more than two inputs a worker are
    taken ahead. Raises ``RunError`` when a worker dies.
    """
    if workers == 0:
        yield from map(make(*arguments), inputs)
        return
    executor = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (os.getpid(), make, arguments))
    pending: Deque[Future] = deque()
    try:
        for item in inputs:
            pending.append(_submit(executor, item))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise RunError(
            "a worker died (the kernel does that when memory runs out): the same command goes on where it stopped, "
            "perhaps with fewer --workers"
        ) from None
    finally:
        for future in pending:
            future.cancel()
        executor.shutdown()


def _submit(executor: ProcessPoolExecutor, item: Any) -> Future:
    """Workers are started here, and inherit what is masked: an interrupt at the terminal goes to all processes
    there.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _MASKED)
    try:
        return executor.submit(_work, item)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_function: Optional[Callable[[Any], Any]] = None


def _begin(parent: int, make: Callable[..., Callable[[Any], Any]], arguments: tuple) -> None:
    global _function
    die_with(parent)
    _function = make(*arguments)


def _work(item: Any) -> Any:
    assert _function is not None  # _begin has made it
    try:
        return _function(item)
    finally:
        # What a large input took goes back to the system: else all workers come to hold what the largest one needed.
        ctypes.CDLL(None).malloc_trim(0)
