"""The dynamic loss scale: it grows while gradients are finite, and falls when one is not.

The rule is that of PyTorch's ``torch.cuda.amp.GradScaler`` (after Micikevicius et al. 2018, *Mixed Precision Training*,
section 3.2). It is written here once, without an engine, for what an executor does by itself to be held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping

#: The value of ``--loss_scale`` that asks for it.
DYNAMIC = "dynamic"
#: Where it begins, and after how many finite steps in a row it doubles, unless options say otherwise.
INITIAL, INTERVAL = 65536.0, 2000


@dataclass(frozen=True)
class LossScale:
    """State where a dynamic loss scale is: the ``scale``, and for how many ``good_steps`` it has been as it is."""

    scale: float
    good_steps: int = 0

    def fell_to(self, later: "LossScale") -> bool:
        """Return whether ``later``, a step after this, follows a gradient that was not finite."""
        return later.good_steps == 0 and later.scale <= self.scale

    def to_dict(self) -> Dict[str, Any]:
        """Return it as a checkpoint keeps it."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "LossScale":
        """Return what ``to_dict`` gave."""
        return cls(float(content["scale"]), int(content["good_steps"]))


@dataclass(frozen=True)
class LossScaleRule:
    """State how a dynamic loss scale moves.

    It begins with ``initial``; after ``interval`` finite steps in a row it is multiplied by ``growth``, after a step
    that is not finite divided by it.
    """

    initial: float = INITIAL
    interval: int = INTERVAL
    growth: float = 2.0

    def first(self) -> LossScale:
        """Return the state before the first step."""
        return LossScale(self.initial)

    def after(self, state: LossScale, finite: bool) -> LossScale:
        """Return the state after a step whose gradient was ``finite`` or not."""
        if not finite:
            return LossScale(state.scale / self.growth)
        if state.good_steps + 1 == self.interval:
            return LossScale(state.scale * self.growth)
        return LossScale(state.scale, state.good_steps + 1)


class StaticOrDynamic:
    """The type of ``--loss_scale``: a number, or the word ``dynamic``."""

    wanted = f"a number of at least 1, or '{DYNAMIC}'"
    #: Its values in YAML, as a JSON schema.
    schema = {"anyOf": [{"type": "number", "minimum": 1}, {"enum": [DYNAMIC]}]}

    @staticmethod
    def convert(value: Any) -> Any:
        if isinstance(value, str) and value.strip().lower() == DYNAMIC:
            return DYNAMIC
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if 1 <= number < float("inf") else None
