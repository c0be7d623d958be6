"""Checks of optimizers and schedules in numpy: whole against spread parameters, and what a checkpoint keeps."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.contract.optimizer import Arrays, OptimizerSpec, Part, StepOptimizer
from pipeloom.testing.check import ConformanceError, need
from pipeloom.testing.subject import Subject

BUILD, SCHEDULE = "pipeloom_build_optimizer", "pipeloom_lr_schedule"
STEPS, RATE = 4, 0.01
#: Norms over parts are added up in another order: some units in the last place of float32, over STEPS steps.
TOLERANCE = 1e-5

#: A matrix, a bias and a LayerNorm's weight.
SPECS = (
    ParameterSpec("dense.weight", (6, 4)),
    ParameterSpec("dense.bias", (6,), "zeros", decay=False),
    ParameterSpec("norm.weight", (4,), "ones", decay=False),
)
#: What each of several ranks has of each parameter: a slice of its first dimension, or nothing.
Held = Tuple[Optional[slice], ...]
WHOLE: Tuple[Held, ...] = ((slice(None),) * 3,)
SPREAD: Tuple[Held, ...] = (
    (slice(0, 3), slice(0, 3), slice(0, 2)),
    (slice(3, 6), slice(3, 6), slice(2, 4)),
)
STAGES: Tuple[Held, ...] = ((slice(None), slice(None), None), (None, None, slice(None)))


class _Numpy(Arrays):
    """The arrays of one rank; sums over whole parameters meet the other ranks at ``meeting``."""

    def __init__(self, rank: int, meeting: "_Meeting") -> None:
        self._rank, self._meeting = rank, meeting

    def assign(self, target: np.ndarray, value: Any) -> None:
        need(
            isinstance(target, np.ndarray) and np.shape(value) == target.shape,
            f"arrays.assign(target, value) gets {np.shape(value)} for a target of {np.shape(target)}: assign the new "
            "value of a weight or a state, of its shape",
        )
        target[...] = value

    def sqrt(self, x: Any) -> Any:
        return np.sqrt(x)

    def sign(self, x: Any) -> Any:
        return np.sign(x)

    def square_sum(self, x: Any) -> Any:
        return np.sum(np.square(x), dtype=np.float64)

    def whole_sums(self, values: Sequence[Optional[Sequence[Any]]], count: int) -> np.ndarray:
        mine = np.array([[0.0] * count if row is None else [float(one) for one in row] for row in values])
        return self._meeting.add(self._rank, mine.reshape(len(values), count))


class _Meeting:
    """Where the ranks add up."""

    def __init__(self, ranks: int) -> None:
        self._values: List[Any] = [None] * ranks
        self._barrier = threading.Barrier(ranks, timeout=20)

    def add(self, rank: int, value: np.ndarray) -> np.ndarray:
        self._values[rank] = value
        self._barrier.wait()
        total = sum(self._values)
        self._barrier.wait()
        return np.asarray(total)

    def leave(self) -> None:
        self._barrier.abort()


class Ranks:
    """Ranks that each hold what ``held`` says of the parameters, and one optimizer each."""

    def __init__(self, make: Callable[[], StepOptimizer], held: Sequence[Held]) -> None:
        self._make, self._held = make, held
        self._meeting = _Meeting(len(held))
        self.optimizers = [make() for _ in held]
        self.parts = [self._parts(rank) for rank in range(len(held))]

    def _parts(self, rank: int) -> List[Optional[Part]]:
        generator, found = np.random.default_rng(2), []
        for spec, piece in zip(SPECS, self._held[rank]):
            value = generator.standard_normal(spec.shape).astype(np.float32)
            mine = None if piece is None else value[piece].copy()
            states = {} if mine is None else {kind: np.zeros_like(mine) for kind in self.optimizers[rank].states}
            found.append(None if mine is None else Part(spec, mine, np.zeros_like(mine), states))
        return found

    def step(self, number: int) -> None:
        failed: List[BaseException] = []

        def update(rank: int) -> None:
            try:
                arrays = _Numpy(rank, self._meeting)
                self.optimizers[rank].update(self.parts[rank], number, RATE, arrays)
            except threading.BrokenBarrierError:
                pass
            except BaseException as error:
                failed.append(error)
                self._meeting.leave()

        for gradient, parts in self._gradients(number):
            for part, piece in parts:
                part.gradient = gradient[piece].copy()
        threads = [threading.Thread(target=update, args=(rank,), daemon=True) for rank in range(len(self._held))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        if failed:
            raise failed[0]

    def _gradients(self, number: int) -> List[Tuple[np.ndarray, List[Tuple[Part, Optional[slice]]]]]:
        """The whole gradient of each parameter in a step, with the parts that there are of it."""
        generator, found = np.random.default_rng(100 + number), []
        for place, spec in enumerate(SPECS):
            gradient = generator.standard_normal(spec.shape).astype(np.float32)
            pairs = [(parts[place], held[place]) for parts, held in zip(self.parts, self._held)]
            found.append((gradient, [(part, piece) for part, piece in pairs if part is not None]))
        return found

    def restart(self) -> None:
        """Begin anew with what a checkpoint has: weights and states."""
        self.optimizers = [self._make() for _ in self._held]

    def weights(self) -> Dict[str, np.ndarray]:
        found = {}
        for place, spec in enumerate(SPECS):
            here = [parts[place] for parts in self.parts]
            found[spec.name] = np.concatenate([part.weight for part in here if part is not None])
        return found


def _maker(subject: Subject) -> Callable[[], Any]:
    return lambda: subject.hook(BUILD, config=subject.config, parameters=list(SPECS))


def after_steps(make: Callable[[], StepOptimizer], held: Sequence[Held], restart: bool = False) -> Dict[str, Any]:
    """The parameters after some steps on ranks that hold ``held``; ``restart``: from a checkpoint before the last."""
    ranks = Ranks(make, held)
    for number in range(1, STEPS + 1):
        if restart and number == STEPS:
            ranks.restart()
        try:
            ranks.step(number)
        except ConformanceError:
            raise
        except Exception as error:
            raise ConformanceError(
                f"its update fails on {len(held)} ranks: {type(error).__name__}: {error}; parts[i] is None where a "
                "rank has nothing of parameter i, and every rank calls whole_sums"
            ) from error
    return ranks.weights()


def agrees_between_layouts_of_numbers(subject: Subject, folder: Path) -> None:
    """Whole parameters, parts of them on two ranks, and some of them on each of two stages."""
    make = _maker(subject)
    if isinstance(make(), OptimizerSpec):
        return  # the engine's own
    whole = after_steps(make, WHOLE)
    for what, held in (("two parts of each parameter (--shard)", SPREAD), ("two stages", STAGES)):
        split = after_steps(make, held)
        for name, value in whole.items():
            difference = float(np.abs(value - split[name]).max())
            need(
                difference <= TOLERANCE,
                f"with {what} '{name}' differs by {difference:.1e} from one process after {STEPS} steps: take norms "
                "and other sums over a whole parameter by arrays.whole_sums, not of this rank's part",
            )


def keeps_its_state_in_checkpoints(subject: Subject, folder: Path) -> None:
    """What an update needs of earlier ones must be a state, or a resumed run goes another way."""
    make = _maker(subject)
    if isinstance(make(), OptimizerSpec):
        return
    through, resumed = after_steps(make, WHOLE), after_steps(make, WHOLE, restart=True)
    for name, value in through.items():
        need(
            np.array_equal(value, resumed[name]),
            f"'{name}' is another after a resume from a checkpoint: keep what the update needs of earlier steps in "
            "part.state, by kinds that 'states' names, and nothing in the object itself",
        )
    fresh = Ranks(make, WHOLE)
    fresh.step(1)
    still = [spec.name for spec, part in zip(SPECS, fresh.parts[0]) if part and not np.isfinite(part.weight).all()]
    need(not still, f"the first step, from states of zeros, makes '{', '.join(still)}' infinite or NaN")


def has_a_rate_for_every_step(subject: Subject, folder: Path) -> None:
    """A resumed run asks for the later steps alone."""
    schedule = subject.hook(SCHEDULE, config=subject.config)
    steps = range(subject.config.train_steps)
    rates = [schedule.at(step) for step in steps]
    for step in reversed(steps):
        rate = schedule.at(step)
        need(np.isfinite(rate) and rate >= 0, f"its learning rate of step {step + 1} is {rate}: from 0 on, and finite")
        need(
            rate == rates[step],
            f"its learning rate of step {step + 1} is {rate} when it is asked out of order, in order {rates[step]}: "
            "make at(step) a function of the step",
        )
