"""Importing OneFlow: quietly, once, and with a clear line where it cannot work."""

from __future__ import annotations

import os
import resource
import sys
import tempfile

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.launch.interpreter import unbearable
from pipeloom.core.launch.network import forget_proxies, local_fault
from pipeloom.core.launch.processes import allow_open_files
from pipeloom.plugins.executors.oneflow.address import announce


def import_oneflow():
    """The ``oneflow`` module.

    Its import prints what it did not find (InfiniBand, a CUDA driver); that is dropped unless the import
    fails. Raises ``RunError`` in one line when OneFlow or a library of its own is missing, and in a Python that it
    cannot bear, ``UsageError`` where this machine does not let it start.
    """
    # glog: a missing CUDA driver is an "error" to it; a failed CHECK, which is fatal, still prints.
    os.environ.setdefault("GLOG_minloglevel", "3")
    if "oneflow" in sys.modules:
        return sys.modules["oneflow"]
    _check_machine()
    forget_proxies()
    announce()
    with _Silence() as silence:
        try:
            import oneflow
        except ImportError as error:
            silence.replay()
            raise RunError(f"oneflow cannot be imported ({error}): {_advice()}") from error
        except Exception as error:
            silence.replay()
            raise RunError(f"oneflow cannot start ({error}): 'doctor' looks at what it needs of a machine") from error
    _one_compute_thread(oneflow)
    return oneflow


def _check_machine() -> None:
    """Raise an error for what makes the engine die or hang; a launcher of ours has looked already."""
    setting = unbearable()
    if setting:
        raise RunError(f"OneFlow 0.9.0 does not run under {setting}: leave it out")
    fault = local_fault(ranks=1)
    if fault:
        raise UsageError(fault)
    allow_open_files(int(os.environ.get("WORLD_SIZE", "1")))


def _advice() -> str:
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY:  # its libraries alone take 4 GB of addresses
        return f"the address space is limited to {space / 1e9:.1f} GB (ulimit -v): ulimit -v unlimited"
    return "install the project's dependencies (pip install -e .)"


def _one_compute_thread(oneflow) -> None:
    """Let each rank compute CPU operations on one thread.

    By default OneFlow deals them out over as many threads as there are cores, while the OpenBLAS bundled
    with its wheel is not safe to call from two threads at once: now and then a product comes out wrong
    (docs/oneflow-notes.md). One process per core is the layout for CPUs anyway.
    """
    session = oneflow.framework.session_context.GetDefaultSession()
    session.TryInit()
    resource = session.resource  # a copy at each access: setting a field of ``session.resource`` is lost
    resource.cpu_device_num = 1
    session.update_resource_eagerly(resource)


class _Silence:
    """Sends what is written to stdout and stderr, by C++ too, into a temporary file."""

    def __enter__(self) -> "_Silence":
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = [os.dup(1), os.dup(2)]
        self._file = tempfile.TemporaryFile()
        for number in (1, 2):
            os.dup2(self._file.fileno(), number)
        return self

    def __exit__(self, *_) -> None:
        for number, saved in zip((1, 2), self._saved):
            os.dup2(saved, number)
            os.close(saved)
        self._file.close()

    def replay(self) -> None:
        self._file.seek(0)
        os.write(self._saved[1], self._file.read())
