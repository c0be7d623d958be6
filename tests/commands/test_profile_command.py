"""``profile``: networks out of timed messages, devices out of products, and what it refuses."""

from __future__ import annotations

import pytest

from pipeloom.core.commands.cli import main
from pipeloom.plugins.commands.plan.planned import Planned
from pipeloom.plugins.commands.profile.networks import fit_line, networks_of
from pipeloom.plugins.commands.profile.profiling import machines_of

SIZES = (1 << 12, 1 << 16, 1 << 20, 1 << 23)


def sends(where, latency, rate, off=0.0):
    return [
        {"where": where, "bytes": size, "seconds": (latency + size / rate) * (1 + off * (-1) ** number)}
        for number, size in enumerate(SIZES)
    ]


@pytest.mark.parametrize("latency, rate", [(5e-6, 1e10), (1e-4, 3.75e7), (1e-3, 1e9)])
def test_latency_and_bandwidth_come_back(latency, rate):
    found = fit_line(sends("inside", latency, rate))
    assert found[0] == pytest.approx(latency, rel=1e-6) and found[1] == pytest.approx(rate, rel=1e-6)
    assert found[2] < 1e-6
    rough = fit_line(sends("inside", latency, rate, off=0.1))
    assert rough[0] == pytest.approx(latency, rel=0.3) and rough[1] == pytest.approx(rate, rel=0.3)
    assert 0.02 < rough[2] < 0.12


def test_messages_that_take_no_time_of_their_own_have_no_negative_latency():
    latency, rate, _ = fit_line([{"bytes": size, "seconds": size / 1e9 + (size / 1e9) ** 2} for size in SIZES])
    assert latency > 0 and rate > 0


def test_the_machines_of_what_was_measured():
    planned = Planned.of(["--plugins", "data_parallel,bert,wiki_ofrecord"])
    ring = [{"where": "inside", "ranks": 2, "bytes": size, "seconds": 2 * 1e-4 + size / 5e8} for size in SIZES]
    measured = {
        "ranks": [{"alone": 8e10 if rank == 0 else None, "together": 4e10, "copy": 5e9} for rank in range(4)],
        "sends": [*sends("inside", 1e-4, 1e9), *sends("between", 2e-4, 3.8e7)],
        "all_reduces": ring,
    }
    machines, lines = machines_of(planned, measured, "mine")
    assert machines.name == "mine" and machines.sharing == pytest.approx(2.0)
    assert machines.device.peak["float32"] == 8e10 and machines.device.memory_bandwidth == 5e9
    assert machines.between.bandwidth == pytest.approx(3.8e7) and machines.inside.latency == pytest.approx(1e-4)
    assert machines.inside.groups[2] == pytest.approx(5e8, rel=1e-6)
    assert "2.00 ranks share a device" in lines[0] and "between nodes: 38 MB/s" in lines[2]
    networks, none = networks_of({"sends": [], "all_reduces": []})
    assert networks == {} and none == []


@pytest.mark.parametrize(
    "arguments, line",
    [
        ([], "profile needs --output FILE"),
        (["--output", "c.yaml", "--rows", "11"], "--rows is 1 to 10"),
        (["--output", "c.yaml", "--nums_splt", "2"], "no option '--nums_splt' (did you mean '--nums_split'?)"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, line):
    assert main(["profile", *arguments]) == 2
    out, err = capsys.readouterr()
    assert line in err and err.count("\n") == 1
