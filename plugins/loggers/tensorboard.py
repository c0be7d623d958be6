"""tensorboard: scalars, hyper-parameters and the resolved config under ``tb/``, without TensorFlow or torch."""

from __future__ import annotations

import io
import os
import socket
import time
from pathlib import Path
from typing import Dict

import pipeloom
from pipeloom.core.base.output import append_to_log, outliving

#: The file of events of each run directory.
_files: Dict[Path, Path] = {}


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    if not run.is_main:
        return
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2

    with outliving(run.directory / "tb"):
        (run.directory / "tb").mkdir(exist_ok=True)
    name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.0"
    _files[run.directory] = run.directory / "tb" / name
    _write(run, Event(wall_time=time.time(), file_version="brain.Event:2"))
    if run.start_step:  # what was logged after the checkpoint is logged anew: TensorBoard drops it
        anew = SessionLog(status=SessionLog.START)
        _write(run, Event(wall_time=time.time(), step=run.start_step + 1, session_log=anew))
    values = {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in run.config.to_flat_dict().items()
        if value is not None
    }
    for summary in (
        summary_v2.hparams_pb({**values, "plugins": ",".join(run.config.plugins)}),
        _text("config", run.config.to_yaml()),
    ):
        _write(run, Event(wall_time=time.time(), step=0, summary=Summary.FromString(summary.SerializeToString())))


def _write(run, event):
    """Append an event. TensorBoard's own writer does it in a thread, which a full disk ends with a traceback."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    record = io.BytesIO()
    RecordWriter(record).write(event.SerializeToString())
    append_to_log(_files[run.directory], record.getvalue())


def _text(tag: str, text: str):
    """A text summary; TensorBoard renders Markdown, so the text is indented as a code block."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text import metadata
    from tensorboard.util import tensor_util

    tensor = tensor_util.make_tensor_proto([("".join(f"    {line}\n" for line in text.splitlines())).encode()])
    return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata.create_summary_metadata("", ""))])


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    _scalars(run, step, metrics)


@pipeloom.hookimpl
def pipeloom_on_evaluate(run, step, metrics):
    _scalars(run, step, {f"eval/{name}": value for name, value in metrics.items()})


def _scalars(run, step, metrics):
    if run.directory not in _files or metrics is None:
        return
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
    _write(run, Event(wall_time=time.time(), step=step, summary=Summary(value=values)))


@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    _files.pop(run.directory, None)
