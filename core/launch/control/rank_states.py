"""What is known of all ranks of a job, on whatever node: how far each is, and whether any of them still moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence


@dataclass
class RankState:
    """``begun``: the highest step begun, 0 for none. ``code``: its exit code once it has ended."""

    node: int
    started: bool = False
    begun: int = 0
    answer: Optional[int] = None
    busy_until: float = 0.0
    asleep: bool = False
    code: Optional[int] = None


class RankStates:
    """The state of ranks ``0 .. world_size - 1``, from the events of ``LocalRanks``. Times are monotonic seconds."""

    def __init__(self, world_size: int, nproc_per_node: int):
        self.ranks: Dict[int, RankState] = {rank: RankState(rank // nproc_per_node) for rank in range(world_size)}
        self.ends: List[Mapping[str, Any]] = []  # bad ones, as they came
        self._moved: Optional[float] = None  # when a rank last began a step; first, when the last rank was started

    def all_started(self, now: float) -> None:
        for state in self.ranks.values():
            state.started = True
        self._moved = now

    def note(self, event: Mapping[str, Any], now: float) -> None:
        state, kind = self.ranks[event["rank"]], event["event"]
        if kind == "step" and event["step"] > state.begun:
            state.begun, state.busy_until, self._moved = event["step"], 0.0, now
        elif kind == "answer":
            state.answer = event["step"]
        elif kind == "busy":
            state.busy_until = now + event["seconds"]
        elif kind == "asleep":
            state.asleep = event["asleep"]
        elif kind == "ended":
            state.code = event["code"]
            if state.code:
                self.ends.append({**event, "node": state.node})

    def alive(self) -> List[int]:
        return [rank for rank, state in self.ranks.items() if state.started and state.code is None]

    def reached(self) -> int:
        """The highest step that any rank has begun."""
        return max(state.begun for state in self.ranks.values())

    def all_have_begun(self) -> bool:
        return all(state.started and (state.begun or state.code == 0) for state in self.ranks.values())

    def agreed(self) -> Optional[int]:
        """The last step of a job whose ranks were asked: the largest answer, once all that are left have given one."""
        left = [self.ranks[rank] for rank in self.alive()]
        if any(state.answer is None for state in left):
            return None
        return max(self.reached(), *(state.answer or 0 for state in self.ranks.values()))

    def busy_until(self) -> float:
        return max((self.ranks[rank].busy_until for rank in self.alive()), default=0.0)

    def hang(self, limit: float, now: float) -> Optional[str]:
        """A line about ranks that no longer move, once none has begun a step for ``limit`` seconds; 0: never."""
        alive = self.alive()
        if not limit or not alive or self._moved is None or now <= max(self._moved + limit, self.busy_until()):
            return None
        least = min(self.ranks[rank].begun for rank in alive)
        behind = [rank for rank in alive if self.ranks[rank].begun == least]
        asleep = [rank for rank in alive if self.ranks[rank].asleep]
        where = f"in step {least}" if least else "before their first step"
        line = (
            f"no rank has begun a step for {limit:g} s (--step_timeout): furthest behind, {where}: {name_ranks(behind)}"
        )
        return line + (f"; stopped by a signal (state T): {name_ranks(asleep)}" if asleep else "")


def name_ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' * (len(ranks) != 1)} {', '.join(map(str, ranks))}"
