"""cluster.yaml: what is written is read again; what is wrong is one line that says where and what to write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeloom.core.base.errors import UsageError
from pipeloom.core.planning.cost.cluster_file import read_machines, write_machines
from pipeloom.core.planning.cost.hardware import BlockTime, Calibration, Device, Machines, Network
from pipeloom.core.planning.cost.units import BYTES, BYTES_A_SECOND, FLOPS, SECONDS, parse_quantity, write_quantity

EXAMPLES = Path(__file__).parents[3] / "examples" / "clusters"
TEXT = "".join(line for line in (EXAMPLES / "m40-1g.yaml").read_text().splitlines(True) if not line.startswith("#"))


def test_every_example_is_read_with_its_figures():
    found = {file.stem: read_machines(str(file)) for file in sorted(EXAMPLES.glob("*.yaml"))}
    assert set(found) == {"a100", "cpu", "h100", "m40-10g", "m40-1g", "m40-two-networks", "t4", "v100"}
    slow = found["m40-1g"]
    assert (slow.nodes, slow.devices_per_node, slow.cluster.device_type) == (2, 2, "cuda")
    assert slow.between.bandwidth == 125e6 and slow.between.latency == pytest.approx(50e-6)
    assert slow.device.memory == 24e9 and slow.device.peak_of(half_precision=True) == 7e12
    two = found["m40-two-networks"]
    assert two.hidden.bandwidth == 1.25e9 and two.gradients.bandwidth == 7e9
    assert found["v100"].inside.among(2) == 25e9 and found["v100"].inside.among(6) == pytest.approx(122.5e9)
    assert found["h100"].cluster.size == 1024 and found["cpu"].sharing == 2


def changed(tmp_path, old, new):
    assert old in TEXT
    file = tmp_path / "c.yaml"
    file.write_text(TEXT.replace(old, new, 1))
    return str(file)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("24 GB,", "24,", "device.memory: 24: it has no unit; write a number and a unit, for instance '5 GiB'"),
        ("24 GB,", "24 Gb,", "'Gb' is no unit for it; write a number and a unit"),
        ("288 GB/s", "288 GiB", "device.memory_bandwidth: 288 GiB: 'GiB' is no unit for it"),
        ("12 GB/s", "-12 GB/s", "networks.inside.bandwidth: '-12 GB/s' is no quantity"),
        ("12 GB/s", "0 GB/s", "networks.inside.bandwidth: 0 GB/s: it must be more than 0"),
        ("50 us", "50 Gbit/s", "networks.between.latency: 50 Gbit/s: 'Gbit/s' is no unit for it"),
        ("nodes: 2", "nodes: two", "nodes: 'two' must be a whole number"),
        ("nodes: 2", "nodes: 0", "nodes: 0 must be a whole number, 1 or more"),
        ("nodes: 2", "nodse: 2", "no key 'nodse' (did you mean 'nodes'"),
        ("type: cuda", "type: gpu", "device.type: 'gpu' must be cpu or cuda"),
        ("float32: 7 TFLOP/s", "float16: 7 TFLOP/s", "device.peak.float32 is missing"),
        ("float32: 7 TFLOP/s", "float32: 7 TB/s", "device.peak.float32: 7 TB/s: 'TB/s' is no unit for it"),
        ("  between: {bandwidth: 1 Gbit/s, latency: 50 us}\n", "", "networks.between is missing: 2 nodes are joined"),
        ("  inside: {bandwidth: 12 GB/s, latency: 10 us}\n", "", "networks.inside is missing: 2 devices"),
        ("latency: 50 us", "latency: 50 us, groups: {one: 1 GB/s}", "networks.between.groups: 'one' must be a number"),
        ("networks:", "calibration: {efficiency: 1.2}\nnetworks:", "calibration.efficiency: 1.2: it is a share"),
        ("networks:", "measured: [{kind: layer}]\nnetworks:", "measured[1].tokens is missing"),
        ("networks:", "networks: [", "it is no YAML"),
        ("name: 2 x", "- name: 2 x", "it is no YAML"),
    ],
)
def test_what_is_wrong_is_a_line_that_says_where(tmp_path, old, new, said):
    path = changed(tmp_path, old, new)
    with pytest.raises(UsageError) as caught:
        read_machines(path)
    assert said in str(caught.value) and path in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_one_that_is_no_mapping(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_machines(str(tmp_path / "no.yaml"))
    file = tmp_path / "list.yaml"
    file.write_text("[1, 2]")
    with pytest.raises(UsageError, match="must have the keys name, nodes"):
        read_machines(str(file))


def test_the_peak_of_a_known_gpu_may_be_left_out(tmp_path):
    path = changed(tmp_path, ", peak: {float32: 7 TFLOP/s}", "")
    assert read_machines(path).device.peak["float32"] == 7e12
    Path(path).write_text(Path(path).read_text().replace("Tesla M40,", "Own,"))
    with pytest.raises(UsageError, match="no GPU whose peak is known"):
        read_machines(path)


quantities = st.floats(1e-9, 1e15)


@given(quantities, st.sampled_from([BYTES, BYTES_A_SECOND, SECONDS, FLOPS]))
def test_quantities_are_read_as_written(value, units):
    assert parse_quantity(write_quantity(value, units), units, "here") == pytest.approx(value, rel=1e-5)


@given(st.integers(1, 9), st.integers(1, 9), quantities, st.floats(1e-9, 10), st.floats(1e-3, 1.0), st.floats(1.0, 8.0))
@settings(deadline=None, max_examples=30)
def test_a_written_cluster_is_read_again(tmp_path_factory, nodes, devices, rate, latency, share, sharing):
    device = Device("a: b #1", "cpu", rate, rate, {"float32": rate, "float16": 2 * rate})
    machines = Machines(
        "two, 'or' more", nodes, devices, device, Network(rate, latency, {2: rate / 3}), Network(rate / 2, latency),
        Network(rate, latency), Network(rate, latency), sharing, Calibration(efficiency=share, launch=latency),
        (BlockTime("layer", 512.0, 1e9, latency, 2 * latency),),
    )  # fmt: skip
    path = str(tmp_path_factory.mktemp("c") / "cluster.yaml")
    write_machines(path, machines, "measured\ntoday")
    found = read_machines(path)
    assert replace(found, device=device, inside=machines.inside, between=machines.between, hidden=machines.hidden,
                   gradients=machines.gradients, sharing=sharing, calibration=machines.calibration,
                   measured=machines.measured) == machines  # fmt: skip
    assert found.inside.groups[2] == pytest.approx(rate / 3, rel=1e-5)
    assert found.calibration.efficiency == pytest.approx(share, rel=1e-5)
    assert found.calibration.launch == pytest.approx(latency, rel=1e-5) and found.calibration.sync == 0
    assert found.device.peak["float16"] == pytest.approx(2 * rate, rel=1e-5) and found.device.name == "a: b #1"
    assert found.measured[0].backward == pytest.approx(2 * latency, rel=1e-5)
