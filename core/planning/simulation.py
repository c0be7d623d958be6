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
from typing import Dict, List, Optional, Sequence, Tuple

FORWARD, BACKWARD, AFTER = "forward", "backward", "after"


@dataclass(frozen=True)
class PipelineWork:
    """What the stages do in a step, in any one unit of time.

    ``forward[s][m]`` and ``backward[s][m]``: stage s with micro-batch m. ``hops[s]``: from stage s to s + 1 and back.
    ``arrivals[m]``: when stage 0 has what it needs of a micro-batch (0 where not given). ``after[s]``: what a stage
    does once all of its micro-batches are done (exchange of gradients, update). ``in_flight``: begun and unfinished
    micro-batches of a stage, 2 p where not given, as the engine's buffers allow. ``capacity``: how many stages the
    machine can serve at once at full speed, where stages share its cores or cards; more of them share it evenly.
    """

    forward: Sequence[Sequence[float]]
    backward: Sequence[Sequence[float]]
    hops: Sequence[float] = ()
    arrivals: Sequence[float] = ()
    after: Sequence[float] = ()
    in_flight: Optional[int] = None
    capacity: Optional[float] = None

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
class _Stage:
    #: (when it became ready, 0 for a backward pass and 1 for a forward one, micro-batch)
    ready: List[Tuple[float, int, int]] = field(default_factory=list)
    working: bool = False
    begun: int = 0
    finished: int = 0

    def next(self, most: int) -> Optional[Tuple[float, int, int]]:
        """Take out what it does next."""
        for entry in sorted(self.ready):
            if entry[1] == 0 or self.begun - self.finished < most:
                self.ready.remove(entry)
                return entry
        return None


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
    stages = [_Stage() for _ in range(count)]
    links: Dict[Tuple[int, int], float] = defaultdict(float)
    begun: Dict[Tuple[int, int, int], float] = {}
    spans: List[Span] = []
    clock = _Clock(work.capacity)
    for number in range(micro_batches):
        clock.ready(work.arrivals[number] if work.arrivals else 0.0, 0, 1, number)

    def send(time: float, source: int, target: int, which: int, number: int) -> None:
        hop = work.hops[min(source, target)] if work.hops else 0.0
        arrival = max(time, links[source, target]) + hop
        links[source, target] = arrival
        clock.ready(arrival, target, which, number)

    upcoming = clock.peek()
    while upcoming is not None:
        time, ready, place, which, number = clock.pop()
        stage = stages[place]
        if ready:
            stage.ready.append((time, which, number))
        else:
            stage.working = False
            spans.append(Span(place, FORWARD if which else BACKWARD, number, begun[place, which, number], time))
            if which == 1 and place < count - 1:
                send(time, place, place + 1, 1, number)
            elif which == 1:
                stage.ready.append((time, 0, number))
            else:
                stage.finished += 1
                if place > 0:
                    send(time, place, place - 1, 0, number)
        upcoming = clock.peek()
        if upcoming is not None and upcoming[0] == time and upcoming[2] == place:
            continue  # all that happens at one instant, before it chooses
        chosen = None if stage.working else stage.next(most)
        if chosen is not None:
            _, which, number = chosen
            stage.working, stage.begun = True, stage.begun + which
            begun[place, which, number] = time
            clock.work(time, (work.forward if which else work.backward)[place][number], place, which, number)
            upcoming = clock.peek()
    for place, after in enumerate(work.after):
        done = max(span.end for span in spans if span.stage == place)
        spans.append(Span(place, AFTER, -1, done, done + after))
    return Timeline(sorted(spans, key=lambda span: (span.begin, span.stage)), count)
