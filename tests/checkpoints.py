"""Checkpoints without an engine, for tests: a run's state in numpy, and ranks that are threads."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from pipeloom.core.base import files
from pipeloom.core.checkpoint.describe import manifest_of
from pipeloom.core.checkpoint.manifest import MANIFEST, Manifest, Position
from pipeloom.core.checkpoint.saver import Saver
from pipeloom.core.planning.goal import Goal
from pipeloom.core.training.run import Run

SHAPES = {"bert.word": (7, 3), "bert.bias": (5,), "head.weight": (2, 4)}
STAGES = (("bert.word", "bert.bias"), ("head.weight",))


def value(name: str, kind: str, step: int) -> np.ndarray:
    """What a parameter, or the optimizer's state for it, is after ``step``."""
    seed = [sum(map(ord, name + kind)), step]
    return np.random.default_rng(seed).standard_normal(SHAPES[name]).astype(np.float32)


def manifest(step: int, evaluation: Optional[Dict[str, float]] = None) -> Manifest:
    return Manifest(
        position={
            "step": step,
            "data_step": step,
            "skipped": 0,
            "norm_since": 0,
            "norm_sum": 0.5,
            "samples": 16 * step,
        },
        dropout={"generator": "philox", "seed": 1, "data_step": step},
        config={"plugins": ["a"], "train": {"train_steps": 100, "seed": 1}},
        given=["train_steps"],
        plugins={"a": "1"},
        answers={"model": "a"},
        model={"name": "m", "task": "t", "size": 34, "huggingface": {}},
        parameters={name: list(shape) for name, shape in SHAPES.items()},
        optimizer="AdamW",
        data="d",
        layout={
            "mesh": {"pipeline": 2, "data": 1, "tensor": 1},
            "cluster": {"nodes": 1, "devices_per_node": 2, "device_type": "cpu", "logical": True},
        },
        versions={"pipeloom": "0"},
        metrics={"loss": 1.5},
        evaluation=evaluation or {},
        saved_at="2026-11-24 12:00:00 +0000",
    )


class State:
    """What ``plugins/executors/oneflow/state.py`` is to a Saver, for one rank of a stage each."""

    stage_count = len(STAGES)

    def __init__(self, rank: int, step: int = 0) -> None:
        self.rank, self.step = rank, step

    def stage_of_writer(self, rank: int) -> Optional[int]:
        return rank if rank < len(STAGES) else None

    def tensors(self, to_rank_0: bool = False):
        for kind in ("", "exp_avg"):
            for stage, names in enumerate(STAGES):
                for name in names:
                    yield name, kind, value(name, kind, self.step) if self.rank == (0 if to_rank_0 else stage) else None


class Ranks:
    """Two ranks as threads, which meet wherever the real ones would talk through the engine."""

    def __init__(self, directory: Path, **settings) -> None:
        self._barrier = threading.Barrier(len(STAGES), timeout=20)
        self._said: List[str] = [""] * len(STAGES)
        settings = {"keep": 2, "goal": Goal("loss"), **settings}
        self.states = [State(rank) for rank in range(len(STAGES))]
        self.savers: List[Saver] = [None] * len(STAGES)  # type: ignore[list-item]
        self.each(
            lambda rank: self.savers.__setitem__(
                rank, Saver(directory, self.states[rank], rank, self._teller(rank), **settings)
            )
        )

    def _teller(self, rank: int):
        def tell_all(text: str) -> List[str]:
            self._said[rank] = text
            self._barrier.wait()
            said = list(self._said)
            self._barrier.wait()
            return said

        return tell_all

    def each(self, action) -> None:
        threads = [threading.Thread(target=action, args=(rank,), daemon=True) for rank in range(len(STAGES))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)

    def save(self, step: int, evaluation: Optional[Dict[str, float]] = None):
        """Save a step to its end; what rank 0 reports of it."""

        def action(rank: int) -> None:
            self.states[rank].step = step
            self.savers[rank].save(manifest(step, evaluation))
            self.savers[rank].finish()

        self.each(action)
        return self.savers[0].poll()


def save_alone(directory: Path, *steps: int, keep: Optional[int] = 2, spare: bool = False) -> None:
    """Save some steps as a job of one process, whose state is that of both stages."""

    class Alone(State):
        stage_count = 1

        def tensors(self, to_rank_0: bool = False):
            for kind in ("", "exp_avg"):
                for name in SHAPES:
                    yield name, kind, value(name, kind, self.step)

    state = Alone(0)
    saver = Saver(
        directory, state, 0, lambda text: [text], keep, Goal("loss"), texts={"vocab.txt": b"[PAD]\n"}, spare=spare
    )
    for step in steps:
        state.step = step
        saver.save(manifest(step))
        saver.finish()
        saved = saver.poll()
        if saved.error:
            raise OSError(saved.error)


def record(plan, plugins, directory: Path, step: int, **changes) -> Path:
    """A checkpoint of a run by ``plan`` into ``directory`` that has a manifest and no tensors, and the config.yaml."""
    run = Run(plan, plugins, directory, 0)
    folder = directory / "checkpoints" / f"step_{step:07d}"
    folder.mkdir(parents=True)
    (directory / "config.yaml").write_text(run.config.to_yaml())
    made = manifest_of(run, Position(step, step), 0.5, "AdamW", {"loss": 1.0}, {})
    files.write_file(folder / MANIFEST, [dataclasses.replace(made, **changes).to_bytes()])
    return folder


def points_of(action) -> List[str]:
    """The write points that ``action`` crosses, in order."""
    seen: List[str] = []
    before, files.crossing = files.crossing, seen.append
    try:
        action()
    finally:
        files.crossing = before
    return seen
