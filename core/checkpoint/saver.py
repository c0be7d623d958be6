"""Save checkpoints while training goes on: ranks copy their part, threads write it, rank 0 completes the checkpoint.

One rank of each stage writes its stage's part into a scratch folder, and last a list of what it wrote. Rank 0 waits for
the lists, adds the manifest and gives the folder its name (``store.py``). The threads talk through the file system
alone: the engine is for the main threads. Where the ranks do not share one, rank 0 gets everything and writes it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from pipeloom.core.base import files
from pipeloom.core.checkpoint.manifest import FileEntry, Manifest
from pipeloom.core.checkpoint.store import FOLDER, Store
from pipeloom.core.checkpoint.writing import NotFinite, Writer, collect
from pipeloom.core.planning.goal import Goal

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Saved:
    """The result of saving: ``path``, or the ``error``; ``seconds`` from the copy to the last renaming."""

    step: int
    path: Optional[Path]
    error: Optional[str]
    seconds: float
    bytes: int


class Saver:
    """Saves the checkpoints of a run; every rank has one and makes the same calls.

    ``gather_text(text)`` returns the texts of all ranks, by rank, on every rank. ``in_background`` keeps a copy of a
    rank's part in memory while it is written; otherwise training waits, and in memory are one tensor and what waits for
    its file to be full. ``texts`` are files that every checkpoint has besides, by name. ``keep``: how many to keep
    (``None``: all), ``spare``: leave alone what is there beyond that.
    """

    def __init__(
        self,
        directory: Path,
        state,
        rank: int,
        gather_text: Callable[[str], List[str]],
        keep: Optional[int],
        goal: Goal,
        in_background: bool = True,
        texts: Optional[Mapping[str, bytes]] = None,
        spare: bool = False,
    ) -> None:
        self.store = Store(Path(directory) / FOLDER)
        self._state, self._rank, self._gather_text = state, rank, gather_text
        self._keep, self._goal, self._in_background, self._texts = keep, goal, in_background, dict(texts or {})
        self._thread: Optional[threading.Thread] = None
        self._own_part_over, self._given_up = threading.Event(), threading.Event()
        self._own_failure, self._reason = "", ""
        self._results: List[Saved] = []
        self._left_over: Optional[Path] = None
        self._attempt, self.shared = self._meet()
        if rank == 0 and spare:
            self.store.spare(keep)

    def _meet(self) -> Tuple[str, bool]:
        """Agree on a name for scratch folders, and find out whether all ranks see the same file system."""
        attempt = self._gather_text(f"{time.time_ns():x}{os.getpid():x}")[0]
        best = self.store.best() if self._rank == 0 else None
        cost = self._goal.cost({best["metric"]: best["value"]}) if best else None
        known = self._gather_text("" if cost is None else repr(cost))[0]
        self._best = float(known) if known else None
        probe = self.store.directory.with_name(f"{files.HIDDEN}seen.{attempt}")
        if self._rank == 0:
            try:
                self.store.sweep()
                probe.parent.mkdir(parents=True, exist_ok=True)
                probe.touch()
            except OSError:
                pass  # saving will report it
        self._gather_text("")
        seen = self._gather_text("yes" if probe.exists() else "no")
        if self._rank == 0 and probe.exists():
            probe.unlink()
        # Where rank 0 itself could not write, nobody sees the probe; that says nothing about the others.
        return attempt, seen[0] == "no" or all(answer == "yes" for answer in seen)

    def is_best(self, evaluation: Mapping[str, float]) -> bool:
        """Return whether no evaluation before was as good; the same on every rank."""
        value = self._goal.cost(evaluation)
        if value is None or (self._best is not None and value >= self._best):
            return False
        self._best = value
        return True

    def save(self, manifest: Manifest) -> None:
        """Begin a checkpoint; ``poll`` returns its result, at the latest after ``finish``."""
        self.finish()
        began = time.monotonic()
        scratch = self.store.scratch(manifest.step, self._attempt)
        stages = self._state.stage_count if self.shared else 1
        own: List[Tuple[str, str, np.ndarray]] = []
        writer = _Part(
            scratch, self._state.stage_of_writer(self._rank) if self.shared else (0 if self._rank == 0 else None)
        )
        for name, kind, array in self._state.tensors(to_rank_0=not self.shared):
            if array is None:
                continue
            if self._in_background:
                own.append((name, kind, array))
            else:
                writer.add(name, kind, array)
            del array  # else it stays beside the next one while that is made
        self._own_part_over, self._given_up = threading.Event(), threading.Event()
        self._own_failure = self._reason = ""
        self._thread = threading.Thread(
            target=self._run, args=(writer, own, scratch, manifest, stages, began), daemon=True
        )
        self._thread.start()
        if not self._in_background:
            self.finish()

    def _run(self, writer: "_Part", own, scratch: Path, manifest: Manifest, stages: int, began: float) -> None:
        """Write the own part, in the thread; on rank 0 wait for the others and commit."""
        while own:
            writer.add(*own.pop(0))  # each array is let go when its file is written
        writer.finish()
        self._own_failure = writer.failure
        if writer.failure and self._rank == 0:
            self._give_up(writer.failure)
        self._own_part_over.set()
        if self._rank == 0:
            self._commit(scratch, manifest, stages, began)

    def _commit(self, scratch: Path, manifest: Manifest, stages: int, began: float) -> None:
        path: Optional[Path] = None
        entries: Optional[Dict[str, FileEntry]] = None
        try:
            entries = self._wait_for(scratch, stages)
            if entries is not None:
                for name, content in self._texts.items():
                    entries[name] = FileEntry(*files.write_file(scratch / name, content), [])
                path = self.store.commit(scratch, manifest, entries, self._keep, self._goal)
        except OSError as error:
            self._reason = _describe(error)
        except BaseException as error:  # a thread that dies in silence would be taken for one that writes
            self._reason = f"{type(error).__name__}: {error}"
        self._left_over = None if path else scratch
        size = sum(entry.bytes for entry in (entries or {}).values())
        self._results.append(Saved(manifest.step, path, None if path else self._reason, time.monotonic() - began, size))

    def _wait_for(self, scratch: Path, stages: int) -> Optional[Dict[str, FileEntry]]:
        entries: Dict[str, FileEntry] = {}
        for number in range(stages):
            while not self._given_up.is_set():
                found = collect(scratch, number)
                if found is not None:
                    entries.update(found)
                    break
                time.sleep(_POLL_SECONDS)
        return None if self._given_up.is_set() else entries

    def _give_up(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._given_up.set()

    def finish(self) -> None:
        """Wait until the checkpoint under way is whole or has failed. Every rank calls it at the same point."""
        if self._thread is None:
            return
        self._own_part_over.wait()
        failures = [f"rank {rank}: {text}" for rank, text in enumerate(self._gather_text(self._own_failure)) if text]
        if failures:
            self._give_up("; ".join(failures))
        self._thread.join()
        self._thread = None
        if self._left_over is not None and self._left_over.exists():  # now that no other rank writes there any more
            with contextlib.suppress(OSError):
                files.remove_folder(self._left_over)
        self._left_over = None

    def wait(self, seconds: float) -> None:
        """Wait at most ``seconds`` for this rank's part of a checkpoint under way, on rank 0 for all of it.

        Other ranks need not make this call.
        """
        if self._thread is not None:
            self._thread.join(seconds)

    def poll(self) -> Optional[Saved]:
        """Return, on rank 0, the result of a checkpoint that has ended since the last call; else ``None``."""
        return self._results.pop(0) if self._results else None


class _Part:
    """A rank's part of a checkpoint, or nothing where ``number`` is ``None``; the first failure ends it."""

    def __init__(self, scratch: Path, number: Optional[int]) -> None:
        self.failure = ""
        self._scratch, self._number = scratch, number
        self._writer: Optional[Writer] = None

    def add(self, name: str, kind: str, array: np.ndarray) -> None:
        self._try(lambda: self._made().add(name, kind, array))

    def finish(self) -> None:
        if self._number is not None:
            self._try(lambda: self._made().finish())

    def _made(self) -> Writer:
        if self._writer is None:
            assert self._number is not None
            files.make_folder(self._scratch)
            self._writer = Writer(self._scratch, self._number)
        return self._writer

    def _try(self, action: Callable[[], None]) -> None:
        if self.failure:
            return
        try:
            action()
        except OSError as error:
            self.failure = _describe(error)
        except NotFinite as error:
            self.failure = str(error)
        except BaseException as error:
            self.failure = f"{type(error).__name__}: {error}"


def _describe(error: OSError) -> str:
    name = Path(error.filename).name if error.filename else ""
    return f"{'cannot write ' + name + ': ' if name else ''}{error.strerror or error}"
