"""What notes the launches of kernels: the machine code itself, and what is read from its records."""

from __future__ import annotations

import ctypes
import mmap
import platform
import threading
import time

import numpy as np
import pytest

from pipeloom.plugins.executors.oneflow.kernel_times import _RECORD, machine_code, pair_records

pytestmark = pytest.mark.fast


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86-64")
def test_a_call_leaves_a_record_and_goes_on_with_the_engines_function():
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    passed_on = []
    original = kind(lambda *arguments: passed_on.append(arguments))
    counter, room = ctypes.c_uint64(0), (ctypes.c_uint8 * (3 * _RECORD.itemsize))()
    clock = ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code = machine_code(
        ctypes.addressof(counter),
        2,
        ctypes.addressof(room),
        1,
        clock,
        ctypes.cast(original, ctypes.c_void_p).value,
    )
    page[: len(code)] = code
    function = kind(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    began = time.perf_counter_ns()
    function(11, 12, 0x7F0000000010)
    other = threading.Thread(target=function, args=(21, 22, 0x7F0000000020))
    other.start()
    other.join()
    function(31, 32, 33)  # for which there is no room
    ended = time.perf_counter_ns()
    assert passed_on == [(11, 12, 0x7F0000000010), (21, 22, 0x7F0000000020), (31, 32, 33)]
    records = np.frombuffer(bytes(room), _RECORD)
    assert counter.value == 3 and records["kernel"].tolist() == [0x7F0000000010, 0x7F0000000020, 0]
    assert (records["thread"][:2] & 1).all() and len(set(records["thread"][:2].tolist())) == 2
    first, second = (records["seconds"] * 10**9 + records["nanoseconds"])[:2]
    assert began <= first <= second <= ended


def test_launches_are_paired_by_thread():
    """Two threads at a time; an end without a begin, and a begin without an end, at the edges of the recording."""
    rows = [(5, 3, 9), (1, 2, 10), (2, 4, 11), (1, 3, 20), (2, 5, 21), (3, 2, 30)]
    records = np.array([(kernel, thread, 1, at) for kernel, thread, at in rows], _RECORD)
    found = [(one.kernel, one.thread, one.begin - 10**9, one.end - 10**9) for one in pair_records(records)]
    assert found == [(1, 2, 10, 20), (2, 4, 11, 21)]
    assert pair_records(records[:0]) == []
