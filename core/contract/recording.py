"""When the operations of a step ran on a rank: what an executor's ``Recorder`` gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

#: What an operation is for. ``transfer``: to and from other stages; ``all_reduce``: sums and copies between the ranks
#: of a stage; ``update``: from the accumulated gradients to the new parameters, the norm and clipping included.
WORK = ("forward", "backward", "transfer", "all_reduce", "update", "other")


@dataclass(frozen=True)
class TimedOperation:
    """One run of an operation on this rank.

    ``name`` is that of the engine's graph, ``type`` what it computes (``"matmul"``), ``work`` one of ``WORK``. ``step``
    counts from 0 since the recording began; ``micro_batch`` is ``None`` for what runs once a step (of several
    micro-batches). ``begin`` and ``end`` are nanoseconds of ``time.perf_counter_ns`` of this process. ``thread``: one
    thread runs one operation at a time.
    """

    name: str
    type: str
    work: str
    step: int
    micro_batch: Optional[int]
    begin: int
    end: int
    thread: int


@dataclass(frozen=True)
class Transfer:
    """A tensor that goes from one stage to another in each micro-batch: from the end of operation ``producer`` of stage
    ``source`` to the begin of ``consumer`` of stage ``target``.
    """

    producer: str
    source: int
    consumer: str
    target: int


@dataclass(frozen=True)
class Recording:
    """The operations of ``steps`` steps on this rank, by begin; ``transfers`` are those of all ranks.

    ``begin`` and ``end`` are the moments between which was recorded. ``lost`` operations did not fit.
    """

    operations: Sequence[TimedOperation]
    transfers: Tuple[Transfer, ...]
    steps: int
    begin: int
    end: int
    lost: int = 0


class Recorder:
    """Record the steps of a ``Training``, from one moment between two steps to another. Every rank makes the calls."""

    def start(self) -> None:
        """Wait until the steps that were begun have ended, and record from now on."""
        raise NotImplementedError("abstract")

    def stop(self) -> Recording:
        """Wait until the steps that were begun have ended, record no more, and return what was recorded."""
        raise NotImplementedError("abstract")
