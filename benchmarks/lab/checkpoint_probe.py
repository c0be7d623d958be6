"""A plugin that measures saving and loading in each rank: seconds, and the peak of the process's memory meanwhile.

``PIPELOOM_LAB_FOLDER``: where ``checkpoint_<rank>.json`` goes at the end of the run: the ``phases`` by name
(``parameters``, ``optimizer``, ``save``, ``finish``), each with ``seconds``, ``before``, ``after`` and ``peak``
(resident bytes, pages of mapped files included) and, for loading, ``reading`` (seconds of it in files); ``own`` (the
rank's parameters and optimizer state, bytes), ``largest`` (bytes of the largest tensor of the model), ``saved``
(seconds until it was whole, on rank 0). The peak is the kernel's own mark (VmHWM), set back at the beginning of a phase
(Linux, proc(5), clear_refs).
"""

import functools
import json
import os
import re
import time
from pathlib import Path

import pipeloom
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.saver import Saver
from pipeloom.core.training.run import Run

_phases, _reading, _notes = {}, [0.0], {}


def _memory():
    """Resident bytes now, and the most since the mark was set back."""
    status = Path("/proc/self/status").read_text()
    return tuple(1024 * int(re.search(rf"{name}:\s+(\d+)", status).group(1)) for name in ("VmRSS", "VmHWM"))


def _measured(name, function):
    """``function``, with a phase ``name`` noted at its first call."""

    @functools.wraps(function)
    def wrapper(*arguments, **named):
        if name in _phases:
            return function(*arguments, **named)
        Path("/proc/self/clear_refs").write_text("5")
        before, read, began = _memory()[0], _reading[0], time.monotonic()
        result = function(*arguments, **named)
        _settle()
        seconds, (after, peak) = time.monotonic() - began, _memory()
        _phases[name] = {
            "seconds": seconds,
            "reading": _reading[0] - read,
            "before": before,
            "after": after,
            "peak": peak,
        }
        return result

    return wrapper


def _settle():
    import oneflow

    oneflow._oneflow_internal.eager.Sync()  # what was asked of the engine may not be done yet


def _timed(function):
    @functools.wraps(function)
    def wrapper(*arguments, **named):
        began = time.monotonic()
        try:
            return function(*arguments, **named)
        finally:
            _reading[0] += time.monotonic() - began

    return wrapper


def _note_sizes(function):
    """After the optimizer's state was loaded, or when a checkpoint begins: what this rank holds."""

    @functools.wraps(function)
    def wrapper(state, *arguments, **named):
        result = function(state, *arguments, **named)
        if "own" not in _notes:
            own = {
                name: tensor
                for name, tensor in state._live().items()
                if not name.startswith(("target.", "norm_record"))
            }
            parts = {
                kind: sum(
                    tensor.numel() * 4
                    for name, tensor in own.items()
                    if name.startswith("parameter.") == (kind == "parameters")
                )
                for kind in ("parameters", "optimizer")
            }
            _notes.update(own=parts, largest=max(4 * spec.size for stage in state._held for spec, _ in stage))
        return result

    return wrapper


def _wrap_the_rest():
    """What lies in rooms that import the engine; they are loaded when a run is opened."""
    from pipeloom.plugins.executors.oneflow import program

    program.build_stages = _measured("parameters", program.build_stages)
    program.GraphState.load_optimizer = _note_sizes(_measured("optimizer", program.GraphState.load_optimizer))


def _opening(function):
    @functools.wraps(function)
    def wrapper(*arguments, **named):
        _wrap_the_rest()
        return function(*arguments, **named)

    return wrapper


def _saving(function):
    """``save``: how long training is held up. What is done behind its back goes on until ``finish`` returns."""

    @functools.wraps(function)
    def wrapper(saver, *arguments, **named):
        _note_sizes(lambda state: None)(saver._state)
        _measured("save", function)(saver, *arguments, **named)
        if saver._thread is not None:
            _measured("finish", type(saver).finish)(saver)
        if saver._results:
            _notes["saved"] = saver._results[-1].seconds

    return wrapper


@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    content = {"phases": _phases, **_notes}
    Path(os.environ["PIPELOOM_LAB_FOLDER"], f"checkpoint_{run.rank}.json").write_text(json.dumps(content))


Run.open = _opening(Run.open)
Saver.save = _saving(Saver.save)
Checkpoint.parameter, Checkpoint.optimizer = _timed(Checkpoint.parameter), _timed(Checkpoint.optimizer)
