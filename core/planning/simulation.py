"""A step of a pipeline played through, event by event: what runs when, and how long the step takes at the least.

Each stage does one thing at a time, whatever became ready first, as OneFlow's actors do; a backward pass before a
forward pass that became ready at the same instant. A stage takes a micro-batch in only while fewer than ``in_flight``
of those that it has begun are unfinished. What goes from stage to stage takes its time on a link, which carries one
thing after the other in each direction.

With equal stages, no time on the way and enough micro-batches in flight the length is ``(m + p - 1) (f + b)``, as for
GPipe and 1F1B (Huang et al. 2019; Narayanan et al. 2021, section 2.2).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Tuple

FORWARD, BACKWARD, WEIGHTS, AFTER = "forward", "backward", "weights", "after"
_KINDS = (BACKWARD, FORWARD, WEIGHTS)  # in the order in which a stage prefers them


@dataclass(frozen=True)
class PipelineWork:
    """What the stages do in a step, in any one unit of time.

    ``forward[s][m]`` and ``backward[s][m]``: stage s with micro-batch m. ``hops[s]``: from stage s to s + 1 and back.
    ``arrivals[m]``: when stage 0 has what it needs of a micro-batch (0 where not given). ``after[s]``: what a stage
    does once all of its micro-batches are done (exchange of gradients, update). ``in_flight``: begun and unfinished
    micro-batches of a stage, 2 p where not given, as the engine's buffers allow. ``capacity``: how many stages the
    machine can serve at once at full speed, where stages share its cores or cards; more of them share it evenly.

    What the engine cannot run, but one may ask for: ``weights[s][m]``, the part of a backward pass that only the update
    waits for, done when there is nothing else to do (zero bubble, Qi et al. 2023); ``devices[s]``, the device of each
    stage, where one has several of them (interleaved, Narayanan et al. 2021, section 2.2).
    """

    forward: Sequence[Sequence[float]]
    backward: Sequence[Sequence[float]]
    hops: Sequence[float] = ()
    arrivals: Sequence[float] = ()
    after: Sequence[float] = ()
    in_flight: Optional[int] = None
    capacity: Optional[float] = None
    weights: Sequence[Sequence[float]] = ()
    devices: Sequence[int] = ()

    def __post_init__(self) -> None:
        stages, micro_batches = len(self.forward), {len(row) for row in (*self.forward, *self.backward)}
        if not stages or len(self.backward) != stages or len(micro_batches) != 1 or not min(micro_batches):
            raise ValueError(
                "forward and backward need the same stages, each with the same micro-batches, one at least"
            )
        if self.hops and len(self.hops) != stages - 1:
            raise ValueError(f"{stages} stages have {stages - 1} hops, not {len(self.hops)}")
        if self.in_flight is not None and self.in_flight < 1:
            raise ValueError("in_flight is 1 at least")
        if self.capacity is not None and self.capacity <= 0:
            raise ValueError("capacity is more than 0")


@dataclass(frozen=True)
class Span:
    """``what`` a ``stage`` did with a micro-batch (-1: with all), from ``begin`` to ``end``."""

    stage: int
    what: str
    micro_batch: int
    begin: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """The spans of a step in the order in which they began."""

    spans: List[Span]
    stages: int

    @property
    def length(self) -> float:
        """When the last stage is done."""
        return max(span.end for span in self.spans)

    def busy(self, stage: int) -> float:
        """How long a stage works."""
        return sum(span.end - span.begin for span in self.spans if span.stage == stage)

    @property
    def bubble(self) -> float:
        """The share of the step in which stages do nothing, over all of them."""
        return 1 - sum(map(self.busy, range(self.stages))) / (self.stages * self.length)


@dataclass
class _Device:
    """What works on the stages of a device; mostly one."""

    #: (0 for a backward pass, 1 for a forward one, 2 for weights; when it became ready; stage; micro-batch)
    ready: List[Tuple[float, int, int, int]] = field(default_factory=list)
    working: bool = False

    def next(self, may_begin: Callable[[int], bool]) -> Optional[Tuple[float, int, int, int]]:
        """Take out what it does next: whatever became ready first, weights when there is nothing else."""
        for entry in sorted(self.ready, key=_weights_last):
            if entry[1] != 1 or may_begin(entry[2]):
                self.ready.remove(entry)
                return entry
        return None


def _weights_last(entry: Tuple[float, int, int, int]) -> Tuple[bool, Tuple[float, int, int, int]]:
    return entry[1] == 2, entry


class _Clock:
    """What happens next: things that become ready in their time, and work that ends when it has had its share.

    Where stages share a machine the ends move whenever one of them begins or ends.
    """

    def __init__(self, capacity: Optional[float]) -> None:
        self._capacity, self._now = capacity, 0.0
        # (time, 0 for the end of work and 1 for what becomes ready, stage, 0 backward and 1 forward, micro-batch)
        self._events: List[Tuple[float, int, int, int, int]] = []
        self._left: Dict[Tuple[int, int, int], float] = {}

    def ready(self, time: float, stage: int, which: int, number: int) -> None:
        heapq.heappush(self._events, (time, 1, stage, which, number))

    def work(self, time: float, seconds: float, stage: int, which: int, number: int) -> None:
        if self._capacity is None:
            heapq.heappush(self._events, (time + seconds, 0, stage, which, number))
        else:
            self._left[stage, which, number] = seconds

    def _speed(self) -> float:
        assert self._capacity is not None
        return min(1.0, self._capacity / len(self._left))

    def peek(self) -> Optional[Tuple[float, int, int, int, int]]:
        """Return the next event, ``None`` at the end."""
        event = self._events[0] if self._events else None
        if self._left:
            speed = self._speed()
            (stage, which, number), left = min(self._left.items(), key=lambda entry: (entry[1], entry[0][0]))
            end = (self._now + left / speed, 0, stage, which, number)
            event = end if event is None else min(event, end)
        return event

    def pop(self) -> Tuple[float, int, int, int, int]:
        event = self.peek()
        assert event is not None
        if self._left:
            done = (event[0] - self._now) * self._speed()
            self._left = {key: max(0.0, left - done) for key, left in self._left.items()}
        if event[1] == 0 and event[2:] in self._left:
            del self._left[event[2:]]
        else:
            heapq.heappop(self._events)
        self._now = event[0]
        return event


def simulate(work: PipelineWork) -> Timeline:
    """Play ``work`` through and return what ran when.

    For example the least a step can take by the times of a profile: ``simulate(PipelineWork(f, b, hops)).length``.
    """
    count, micro_batches = len(work.forward), len(work.forward[0])
    most = work.in_flight or 2 * count
    device_of = list(work.devices) or list(range(count))
    devices = {number: _Device() for number in device_of}
    begun, finished = [0] * count, [0] * count
    began: Dict[Tuple[int, int, int], float] = {}
    links: Dict[Tuple[int, int], float] = defaultdict(float)
    spans: List[Span] = []
    seconds = (work.backward, work.forward, work.weights)
    clock = _Clock(work.capacity)
    for number in range(micro_batches):
        clock.ready(work.arrivals[number] if work.arrivals else 0.0, 0, 1, number)

    def send(time: float, source: int, target: int, which: int, number: int) -> None:
        hop = work.hops[min(source, target)] if work.hops else 0.0
        arrival = max(time, links[source, target]) + hop
        links[source, target] = arrival
        clock.ready(arrival, target, which, number)

    def may_begin(stage: int) -> bool:
        return begun[stage] - finished[stage] < most

    upcoming = clock.peek()
    while upcoming is not None:
        time, ready, stage, which, number = clock.pop()
        device = devices[device_of[stage]]
        if ready:
            device.ready.append((time, which, stage, number))
        else:
            device.working = False
            spans.append(Span(stage, _KINDS[which], number, began[stage, which, number], time))
            if which == 1 and stage < count - 1:
                send(time, stage, stage + 1, 1, number)
            elif which == 1:
                device.ready.append((time, 0, stage, number))
            elif which == 0:
                finished[stage] += 1
                if stage > 0:
                    send(time, stage, stage - 1, 0, number)
                if work.weights:
                    device.ready.append((time, 2, stage, number))
        upcoming = clock.peek()
        if upcoming is not None and upcoming[0] == time and device_of[upcoming[2]] == device_of[stage]:
            continue  # all that happens at one instant, before it chooses
        chosen = None if device.working else device.next(may_begin)
        if chosen is not None:
            _, which, stage, number = chosen
            device.working = True
            begun[stage] += which == 1
            began[stage, which, number] = time
            clock.work(time, seconds[which][stage][number], stage, which, number)
            upcoming = clock.peek()
    for stage, after in enumerate(work.after):
        done = max(span.end for span in spans if device_of[span.stage] == device_of[stage])
        spans.append(Span(stage, AFTER, -1, done, done + after))
    return Timeline(sorted(spans, key=lambda span: (span.begin, span.stage)), count)
