"""tensorboard: scalars, hyper-parameters and the resolved config under ``tb/``, without TensorFlow or torch."""
from __future__ import annotations

import time

import pipeloom

_writers = {}


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    if not run.is_main:
        return
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(run.directory / "tb"))
    _writers[run.directory] = writer
    if run.start_step:    # what was logged after the checkpoint is logged anew: TensorBoard drops it
        writer.add_event(Event(wall_time=time.time(), step=run.start_step + 1, session_log=SessionLog(status=SessionLog.START)))
    values = {name: value if isinstance(value, (bool, int, float, str)) else str(value)
              for name, value in run.config.to_flat_dict().items() if value is not None}
    for summary in (summary_v2.hparams_pb({**values, "plugins": ",".join(run.config.plugins)}), _text("config", run.config.to_yaml())):
        writer.add_event(Event(wall_time=time.time(), step=0, summary=Summary.FromString(summary.SerializeToString())))
    writer.flush()


def _text(tag: str, text: str):
    """A text summary; TensorBoard renders Markdown, so the text is indented as a code block."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text import metadata
    from tensorboard.util import tensor_util

    tensor = tensor_util.make_tensor_proto([("".join(f"    {line}\n" for line in text.splitlines())).encode()])
    return Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata.create_summary_metadata("", ""))])


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    writer = _writers.get(run.directory)
    if writer is None or metrics is None:
        return
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
    writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
    writer.flush()


@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    writer = _writers.pop(run.directory, None)
    if writer is not None:
        writer.close()
