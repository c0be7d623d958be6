"""The machines of published tables, from data sheets, by what a table calls its devices."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, Tuple

from pipeloom.core.planning.cost.hardware import Device, Machines, Network

GIGA = 1e9


def _device(name: str, memory: float, bandwidth: float, single: float, half: float) -> Device:
    return Device(name, "cuda", memory * GIGA, bandwidth * GIGA, {"float32": single * 1e12, "float16": half * 1e12})


#: NVIDIA's data sheets: GB, GB/s, TFLOP/s in float32 and float16.
H100 = _device("H100", 80, 3350, 67, 989)
A100 = _device("A100", 80, 2039, 19.5, 312)
V100 = _device("V100", 16, 900, 15.7, 125)
T4 = _device("T4", 16, 320, 8.1, 65)
M40 = _device("M40", 24, 288, 7, 7)

NVSWITCH_3 = Network(300 * GIGA, 5e-6)  # A100: 12 links of 25 GB/s in each direction
NVSWITCH_4 = Network(450 * GIGA, 5e-6)
#: The hybrid cube mesh of V100: six links of 25 GB/s, one of them between the devices of many pairs.
CUBE_MESH = Network(150 * GIGA, 5e-6, {2: 25 * GIGA, 3: 50 * GIGA, 4: 95 * GIGA, 8: 150 * GIGA})
PCIE = Network(12 * GIGA, 1e-5)

#: A word of a table's device -> device, network inside a node and between nodes (bytes a second of a node).
_KNOWN: Dict[str, Tuple[Device, Network, Network]] = {
    "H100": (H100, NVSWITCH_4, Network(400 * GIGA, 1e-5)),
    "A100": (A100, NVSWITCH_3, Network(100 * GIGA, 1e-5)),
    "V100": (V100, CUBE_MESH, Network(12.5 * GIGA, 1e-5)),
    "T4": (T4, Network(6.25 * GIGA, 1e-5), Network(6.25 * GIGA, 2e-5)),
    "M40": (M40, PCIE, Network(5 * GIGA, 2e-5)),
}
#: Where a table does not say: LiBai's benchmarks reach 53 TFLOP/s on one device, which a V100 does.
_ASSUMED = "V100"


def machines_named(text: str, nodes: int, devices: int) -> Tuple[Machines, str]:
    """Return the machines that a table calls ``text``, and a note where that had to be assumed."""
    word = next((word for word in _KNOWN if word.lower() in text.lower()), None)
    device, inside, between = _KNOWN[word or _ASSUMED]
    note = "" if word else f"'{text}': {_ASSUMED} assumed"
    return Machines(text, nodes, devices, device, inside, between), note


def shaped(machines: Machines, nodes: int, devices: int) -> Machines:
    """Return as many of these machines."""
    return replace(machines, nodes=nodes, devices_per_node=devices)


Shape = Callable[[int, int], Machines]
