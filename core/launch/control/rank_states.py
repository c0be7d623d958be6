"""What is known of all ranks of a job, on whatever node: how far each is, and whether any of them still moves."""

from __future__ import annotations

import os
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
    stacks: Optional[Mapping[str, Any]] = None  # the event, once they were asked for and have come


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
        elif kind == "stacks":
            state.stacks = event
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

    def hangs(self, limit: float, now: float) -> bool:
        """Whether none of the ranks has begun a step for ``limit`` seconds; 0: never."""
        if not limit or not self.alive() or self._moved is None:
            return False
        return now > max(self._moved + limit, self.busy_until())

    def behind(self) -> str:
        """Say which ranks are behind, and what they do as far as that is known: ``rank 1 is behind: in step 3, ...``.

        Those that are stopped by a signal; else, of those that have begun the fewest steps, the ones that are at
        something in which they wait for no other rank; else all of those.
        """
        alive = self.alive()
        asleep = [rank for rank in alive if self.ranks[rank].asleep]
        least = min(self.ranks[rank].begun for rank in asleep or alive)
        ranks = [rank for rank in asleep or alive if self.ranks[rank].begun == least]
        ranks = [rank for rank in ranks if (self.ranks[rank].stacks or {}).get("alone")] or ranks
        said = sorted({self._doing(rank) for rank in ranks})
        return (
            f"{name_ranks(ranks)} {'is' if len(ranks) == 1 else 'are'} behind: "
            f"{f'in step {least}' if least else 'before the first step'}{said[0] if len(said) == 1 else ''}"
        )

    def phases(self) -> List[str]:
        """Return a line for each rank: its step, and what it does since when; for the first 64."""
        return [
            f"rank {rank}: {f'in step {state.begun}' if state.begun else 'before its first step'}{self._doing(rank)}"
            + (f", for {state.stacks['seconds']:.0f} s" if state.stacks and state.stacks["seconds"] else "")
            + (f" ({state.stacks['fault']})" if state.stacks and state.stacks["fault"] else "")
            for rank, state in list(self.ranks.items())[:64]
            if state.started and state.code is None
        ]

    def where_stacks_are(self) -> str:
        """Return where the stacks of all ranks are, each on its node; "" where there are none."""
        folders = {os.path.dirname(state.stacks["path"]): 0 for state in self.ranks.values() if state.stacks}
        return f"; stacks: {', '.join(f'{folder}/stacks_of_rank_*.txt' for folder in folders)}" if folders else ""

    def _doing(self, rank: int) -> str:
        state = self.ranks[rank]
        known = state.stacks or {}
        what = [known["what"]] if known else []
        what += [f"in {known['where']}"] if known.get("where") else []
        what += ["stopped by a signal (state T)"] if state.asleep else []
        return "".join(f", {part}" for part in what)


def name_ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' * (len(ranks) != 1)} {', '.join(map(str, ranks))}"
