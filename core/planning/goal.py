"""Which of a run's evaluations is the best one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional


@dataclass(frozen=True)
class Goal:
    """The metric that the best checkpoint has the best value of.

    ``measured`` is false where the held-out set gives no metric at all.
    """

    metric: str = "loss"
    higher: bool = False
    measured: bool = True

    def cost(self, evaluation: Mapping[str, float]) -> Optional[float]:
        """Return the metric, turned so that less is better; ``None`` where it was not measured."""
        value = evaluation.get(self.metric)
        return None if value is None else (-value if self.higher else value)
