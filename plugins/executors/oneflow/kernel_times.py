"""When each kernel of this process ran: the engine's own observer of launches, made to keep the time.

OneFlow calls ``WillForward(context, kernel)`` of one ``KernelObserver`` before each launch of a kernel, and
``DidForward`` after it. Its own profiler is another (it aborts without CUDA: docs/oneflow-notes.md, "When each kernel
runs"). While a recording lasts, that object has a table of functions of ours, which note the kernel, the thread and
the time and go on with the engine's. They are machine code: a callback in Python would wait for the interpreter at
each of thousands of launches a step, and the threads of the engine with it.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List

import numpy as np

from pipeloom.core.base.errors import UsageError

_OBSERVER = "_ZZN7oneflow9SingletonINS_14KernelObserverEvE7GetPPtrEvE3ptr"
_TABLE = "_ZTVN7oneflow19ChainKernelObserverE"
_WILL = "_ZN7oneflow19ChainKernelObserver11WillForwardEPNS_13KernelContextEPKNS_6KernelE"
_DID = "_ZN7oneflow19ChainKernelObserver10DidForwardEPNS_13KernelContextEPKNS_6KernelE"
_CONF_TABLE = "_ZTVN7oneflow10KernelConfE"
_CONF_SIZE = "_ZNK7oneflow10KernelConf12ByteSizeLongEv"
_CONF_WRITE = "_ZNK6google8protobuf11MessageLite16SerializeToArrayEPvi"

#: Words of the table that are copied: two before the functions, and no more functions than a ``KernelObserver`` has.
_TABLE_WORDS = 16
#: Where a ``Kernel`` has its ``KernelConf``, in bytes.
_CONF_AT = 16
#: Launches that a recording holds; memory is taken for those that there are.
CAPACITY = 4_000_000
_RECORD = np.dtype([("kernel", "<u8"), ("thread", "<u8"), ("seconds", "<i8"), ("nanoseconds", "<i8")])


@dataclass(frozen=True)
class Launch:
    """A run of a kernel: ``begin`` and ``end`` in nanoseconds of ``time.perf_counter_ns``."""

    kernel: int
    thread: int
    begin: int
    end: int


class KernelTimes:
    """Record the launches of this process. Raises ``UsageError`` in one line where the library is not as expected."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        if platform.machine() not in ("x86_64", "AMD64"):
            raise _unknown(f"a {platform.machine()} processor")
        self._library = ctypes.CDLL(_loaded("liboneflow"))
        self._capacity = 2 * capacity
        self._object = self._pointer_at(self._address(_OBSERVER))
        self._own_table = self._address(_TABLE) + 16
        if not self._object or self._pointer_at(self._object) != self._own_table:
            raise _unknown("its observer of kernels is of another class")
        self._records = mmap.mmap(-1, self._capacity * _RECORD.itemsize)
        self._counter = ctypes.c_uint64(0)
        self._table = self._make_table()

    def start(self) -> None:
        """Forget what was recorded, and record from now on."""
        self._counter.value = 0
        self.resume()

    def resume(self) -> None:
        """Go on recording after ``pause``."""
        self._set_table(ctypes.addressof(self._table) + 16)

    def pause(self) -> bool:
        """Record nothing until ``resume``; return whether anything was recorded up to now."""
        recorded = self._pointer_at(self._object) != self._own_table
        self._set_table(self._own_table)
        return recorded

    def launches(self) -> List[Launch]:
        """Return what was recorded, in order of time for each thread."""
        count = min(self._counter.value, self._capacity)
        records = np.frombuffer(self._records, _RECORD, count).copy()
        return pair_records(records)

    @property
    def lost(self) -> int:
        """Launches for which there was no room."""
        return max(0, self._counter.value - self._capacity) // 2

    def description(self, kernel: int) -> Any:
        """Return the ``KernelConf`` of a kernel that still exists. Raises ``UsageError`` for what is none."""
        from oneflow.core.kernel import kernel_pb2

        conf = kernel + _CONF_AT
        if self._pointer_at(conf) != self._address(_CONF_TABLE) + 16:
            raise _unknown("its kernels do not hold their descriptions")
        size = self._function(self._library, _CONF_SIZE, ctypes.c_size_t)(conf)
        content = ctypes.create_string_buffer(size)
        protobuf = ctypes.CDLL(_loaded("libprotobuf"))
        write = self._function(protobuf, _CONF_WRITE, ctypes.c_bool, ctypes.c_void_p, ctypes.c_int)
        if not write(conf, ctypes.addressof(content), size):
            raise _unknown("the description of a kernel cannot be read")
        return kernel_pb2.KernelConf.FromString(content.raw)

    def _make_table(self) -> Any:
        """Return a copy of the observer's table of functions with ours in it."""
        words = (ctypes.c_uint64 * _TABLE_WORDS).from_address(self._own_table - 16)
        table = (ctypes.c_uint64 * _TABLE_WORDS)(*words)
        clock = ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p).value or 0
        try:
            self._code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        except OSError as error:
            raise UsageError(
                f"--profile: this system lets no process make code ({error.strerror}): leave it out"
            ) from None
        here = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        buffer = ctypes.addressof(ctypes.c_char.from_buffer(self._records))
        for tag, symbol in enumerate((_WILL, _DID)):
            original, place = self._address(symbol), 256 * tag
            slots = [number for number, word in enumerate(table) if word == original]
            if len(slots) != 1:
                raise _unknown("its observer's table of functions is another")
            code = machine_code(ctypes.addressof(self._counter), self._capacity, buffer, tag, clock, original)
            self._code[place : place + len(code)] = code
            table[slots[0]] = here + place
        return table

    def _set_table(self, address: int) -> None:
        ctypes.c_uint64.from_address(self._object).value = address

    def _address(self, symbol: str) -> int:
        try:
            return ctypes.addressof(ctypes.c_char.in_dll(self._library, symbol))
        except ValueError:
            raise _unknown(f"it has no {symbol}") from None

    @staticmethod
    def _pointer_at(address: int) -> int:
        return ctypes.c_uint64.from_address(address).value

    @staticmethod
    def _function(library: ctypes.CDLL, symbol: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        try:
            function = getattr(library, symbol)
        except AttributeError:
            raise _unknown(f"it has no {symbol}") from None
        function.restype, function.argtypes = result, [ctypes.c_void_p, *arguments]
        return function


def pair_records(records: np.ndarray) -> List[Launch]:
    """Return the launches in ``records`` of begins and ends (odd ``thread``), thread by thread.

    What began before the recording, or ended after it, is left out.
    """
    thread, ends = records["thread"] & ~np.uint64(1), (records["thread"] & np.uint64(1)).astype(bool)
    times = records["seconds"] * 1_000_000_000 + records["nanoseconds"]
    launches: List[Launch] = []
    for known in np.unique(thread):
        (own,) = np.nonzero(thread == known)  # a thread writes its records in order
        first = own[:-1][~ends[own[:-1]] & ends[own[1:]]]
        last = own[1:][~ends[own[:-1]] & ends[own[1:]]]
        launches += map(
            Launch,
            records["kernel"][first].tolist(),
            [int(known)] * len(first),
            times[first].tolist(),
            times[last].tolist(),
        )
    return launches


def machine_code(counter: int, capacity: int, buffer: int, tag: int, clock: int, original: int) -> bytes:
    """Return a function for x86-64 that takes the next of ``capacity`` records of 32 bytes and goes on to ``original``.

    Arguments by the System V convention: ``rdi``: the observer, ``rsi``: the context, ``rdx``: the kernel. In a record:
    the kernel; the thread, with ``tag`` in its lowest bit; seconds and nanoseconds of ``clock(CLOCK_MONOTONIC, ...)``.
    """

    def load(value: int) -> bytes:  # movabs rax, value
        return b"\x48\xb8" + value.to_bytes(8, "little")

    record = b"".join(
        (
            b"\x48\xc1\xe1\x05",  # shl rcx, 5
            load(buffer),
            b"\x48\x01\xc1",  # add rcx, rax
            b"\x48\x89\x11",  # mov [rcx], rdx
            b"\x64\x48\x8b\x04\x25\x00\x00\x00\x00",  # mov rax, fs:[0]
            b"\x48\x83\xc8" + bytes([tag]),  # or rax, tag
            b"\x48\x89\x41\x08",  # mov [rcx+8], rax
            b"\x48\x8d\x71\x10",  # lea rsi, [rcx+16]
            b"\xbf\x01\x00\x00\x00",  # mov edi, CLOCK_MONOTONIC
            load(clock),
            b"\xff\xd0",  # call rax
        )
    )
    return b"".join(
        (
            b"\x57\x56\x52",  # push rdi; push rsi; push rdx  (and the stack is aligned for the call)
            b"\xb9\x01\x00\x00\x00",  # mov ecx, 1
            load(counter),
            b"\xf0\x48\x0f\xc1\x08",  # lock xadd [rax], rcx
            load(capacity),
            b"\x48\x39\xc1",  # cmp rcx, rax
            b"\x73" + bytes([len(record)]),  # jae behind the record
            record,
            b"\x5a\x5e\x5f",  # pop rdx; pop rsi; pop rdi
            load(original),
            b"\xff\xe0",  # jmp rax
        )
    )


def _loaded(name: str) -> str:
    """Return the path of a library of the engine that this process has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith(name) and "oneflow" in path:
            return path
    raise _unknown(f"no {name} is loaded")


def _unknown(what: str) -> UsageError:
    return UsageError(
        f"--profile reads times inside of OneFlow 0.9.0 for x86-64, and this is another build ({what}): leave it out"
    )
