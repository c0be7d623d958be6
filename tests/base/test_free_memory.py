"""What is free for new processes, by made-up kernels."""

import pytest

from pipeloom.core.base import free_memory
from pipeloom.core.base.free_memory import Room, find_room, rooms

pytestmark = pytest.mark.fast

MEMINFO = "MemTotal:  2000 kB\nMemAvailable:    1000 kB\nSwapFree: 500 kB\nHugePages_Total: 0\n"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Return what writes a file of /proc or /sys/fs/cgroup."""
    monkeypatch.setattr(free_memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(free_memory, "_CGROUPS", tmp_path / "cgroup")

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("proc/meminfo", MEMINFO)
    return write


def test_the_machine(kernel):
    assert find_room() == Room(1000 * 1024, 500 * 1024, "this machine")
    assert rooms("cpu", [2, 3]) == [([2, 3], find_room())]


def test_a_kernel_that_does_not_say(kernel):
    kernel("proc/meminfo", "MemTotal: 2000 kB\n")
    assert find_room() is None
    assert rooms("cpu", [0]) == []


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", "nonsense", ""])
def test_a_group_without_a_limit(kernel, limit):
    kernel("proc/self/cgroup", "0::/job\n")
    kernel("cgroup/job/memory.max", limit)
    kernel("cgroup/job/memory.current", "10")
    assert find_room().limited_by == "this machine"


def test_the_limit_of_a_group_above(kernel):
    kernel("proc/self/cgroup", "0::/slice/job\n")
    kernel("cgroup/slice/job/memory.max", "max")
    kernel("cgroup/slice/memory.max", "500000\n")
    kernel("cgroup/slice/memory.current", "300000\n")
    kernel("cgroup/slice/memory.stat", "anon 1\ninactive_file 50000\n")
    assert find_room() == Room(250000, 0, "its control group")


def test_version_1_and_a_path_of_the_host(kernel):
    kernel("proc/self/cgroup", "9:cpu:/x\n5:memory:/docker/abc\n0::/\n")
    kernel("cgroup/memory/memory.limit_in_bytes", "400000")
    kernel("cgroup/memory/memory.usage_in_bytes", "300000")
    kernel("cgroup/memory/memory.stat", "inactive_file 5\ntotal_inactive_file 7\n")
    assert find_room() == Room(100007, 0, "its control group")


def test_a_limit_between_memory_and_swap(kernel):
    kernel("proc/self/cgroup", "0::/\n")
    kernel("cgroup/memory.max", "1200000")
    kernel("cgroup/memory.current", "0")
    assert find_room() == Room(1000 * 1024, 1200000 - 1000 * 1024, "its control group")
