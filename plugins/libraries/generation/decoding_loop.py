"""Prompts in batches through a decoder, token by token, until each has ended.

Prompts of a batch end in the same column, shorter ones have padding before them, which nothing attends to and which has
no position: so a prompt is gone on with as if it were alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import RunError
from pipeloom.core.contract.executor import Decoder
from pipeloom.plugins.libraries.generation.sampling import Sampling

#: Why a text has ended: by its end token, by --max_new_tokens, or because the model has no position for another token.
END, LIMIT, POSITIONS = "end token", "max_new_tokens", "positions"


@dataclass(frozen=True)
class LoopSettings:
    """State how texts are gone on with.

    ``positions``: how many tokens a text can have, prompt included; ``vocab``: how many tokens there are; ``end``: the
    token that ends a text. ``use_cache``: keep what attention needs of earlier tokens; without, all are read again for
    each one.
    """

    sampling: Sampling
    max_new_tokens: int
    positions: int
    vocab: int
    end: Optional[int] = None
    batch_size: int = 8
    use_cache: bool = True


@dataclass(frozen=True)
class Continuation:
    """Hold the tokens behind a prompt, its end token included, and why there are no more."""

    ids: List[int]
    ended: str


def generate(
    begin: Callable[[], Decoder],
    prompts: Sequence[Sequence[int]],
    settings: LoopSettings,
    may_step: Callable[[int], bool] = lambda step: True,
) -> Iterator[Tuple[int, Continuation]]:
    """Yield the number of each prompt with what comes behind it; those of like length are computed together.

    ``begin`` makes a decoder for a batch. ``may_step`` is asked before each step, by its number from 1; all ends when
    it says no. Every rank goes through it. Raises ``RunError`` where logits are not finite.
    """
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    done = 0
    for start in range(0, len(order), settings.batch_size):
        numbers = order[start : start + settings.batch_size]
        batch = _Batch([prompts[number] for number in numbers], numbers, settings)
        decoder = begin()
        while batch.goes_on:
            done += 1
            if not may_step(done):
                return
            batch.step(decoder)
            if not settings.use_cache:
                decoder, batch.read = begin(), 0
        for number, ids, ended in zip(numbers, batch.found, batch.ended):
            yield number, Continuation(ids, str(ended))


class _Batch:
    """The texts of a batch: their tokens in columns, those of shorter prompts behind padding."""

    def __init__(self, prompts: Sequence[Sequence[int]], numbers: Sequence[int], settings: LoopSettings) -> None:
        self._settings, self._numbers = settings, numbers
        longest = max(map(len, prompts))
        self._first_B1 = np.array([[longest - len(prompt)] for prompt in prompts])
        self._tokens_BK = np.zeros((len(prompts), longest), np.int32)
        for row, prompt in zip(self._tokens_BK, prompts):
            row[longest - len(prompt) :] = prompt
        #: How many columns the decoder has read.
        self.read = 0
        self.found: List[List[int]] = [[] for _ in prompts]
        self.ended: List[Optional[str]] = [None for _ in prompts]

    @property
    def goes_on(self) -> bool:
        return None in self.ended

    def step(self, decoder: Decoder) -> None:
        """Read the columns that are new, and add the next one."""
        columns_L, keys_K = np.arange(self.read, self._tokens_BK.shape[1]), np.arange(self._tokens_BK.shape[1])
        # What has ended is computed with the others, at a position that there is.
        positions_BL = np.clip(columns_L - self._first_B1, 0, self._settings.positions - 1).astype(np.int32)
        visible_BLK = (keys_K <= columns_L[:, None]) & (keys_K >= self._first_B1[:, :, None])
        ids_BL = np.ascontiguousarray(self._tokens_BK[:, self.read :])
        logits_BV = decoder.step({"input_ids": ids_BL}, positions_BL, visible_BLK)[:, : self._settings.vocab]
        self.read = self._tokens_BK.shape[1]
        column = np.zeros((len(self.found), 1), np.int32)
        for row, number in enumerate(self._numbers):
            if self.ended[row] is None:
                column[row] = self._next(row, number, logits_BV[row])
        self._tokens_BK = np.concatenate([self._tokens_BK, column], axis=1)

    def _next(self, row: int, number: int, logits_V: np.ndarray) -> int:
        if not np.isfinite(logits_V).all():
            raise RunError(f"prompt {number + 1}: the model's logits are not finite: its weights are no use")
        settings, found = self._settings, self.found[row]
        found.append(settings.sampling.choose(logits_V, number, len(found)))
        length = self._tokens_BK.shape[1] + 1 - int(self._first_B1[row, 0])
        if found[-1] == settings.end:
            self.ended[row] = END
        elif len(found) == settings.max_new_tokens:
            self.ended[row] = LIMIT
        elif length > settings.positions:  # the new token could not be read
            self.ended[row] = POSITIONS
        return found[-1]
