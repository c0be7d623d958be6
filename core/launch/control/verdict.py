"""How one start of a job ended, as every node shows it."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Optional, Sequence

from pipeloom.core.base.errors import RunError


@dataclass(frozen=True)
class Verdict:
    """How a start of a job ended.

    ``line`` and ``details``: what happened on ``node`` (``None``: to the whole job). On that node itself ``hint`` is
    added, and ``own_words`` (what a rank has printed, as it is; empty if it is on the console already) replace them.

    ``fault``: starting again may help. ``step`` is the highest step that a rank had begun, 0 for none.
    """

    code: int
    line: str = ""
    details: Sequence[str] = ()
    node: Optional[int] = None
    hint: str = ""
    own_words: Optional[Sequence[str]] = None
    fault: bool = False
    step: int = 0

    @property
    def reason(self) -> str:
        """The line that says what happened, the failed rank's own where it has said something."""
        words = [text.strip() for text in self.own_words or () if text.strip()]
        return words[-1].replace("pipeloom: error: ", "", 1) if words else self.line

    def show(self, node: int) -> None:
        """Print it on stderr of ``node``."""
        if self.own_words is not None and node == self.node:
            for text in self.own_words:
                print(text, file=sys.stderr, flush=True)
            return
        if not self.line:
            return
        fail(self.line + self.hint if self.node in (None, node) else f"node {self.node}: {self.line}")
        for text in self.details:
            print(f"  | {text}", file=sys.stderr, flush=True)

    def to_message(self) -> Dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> "Verdict":
        return cls(**message)


def fault(line: str, **more: Any) -> Verdict:
    """Return the verdict on what a new start may mend; exit code 1."""
    return Verdict(RunError.exit_code, line, fault=True, **more)


def print_line(line: str) -> None:
    """Print a line of the launcher on stderr."""
    print(f"pipeloom: {line}", file=sys.stderr, flush=True)


def fail(line: str) -> None:
    """Print an error of the launcher on stderr."""
    print_line(f"error: {line}")
