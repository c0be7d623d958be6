"""``cluster.yaml``: the machines of a cluster, from data sheets or as ``profile`` has measured them.

    name: two nodes of two M40
    nodes: 2
    devices_per_node: 2
    device: {name: Tesla M40, type: cuda, memory: 24 GiB, memory_bandwidth: 288 GB/s, peak: {float32: 7 TFLOP/s}}
    networks:
      inside: {bandwidth: 12 GB/s, latency: 10 us}
      between: {bandwidth: 1 Gbit/s, latency: 50 us}

``bandwidth`` counts one direction: of a device inside a node, of the whole node between nodes.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import yaml

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.base.files import replace_file
from pipeloom.core.base.gpu_peaks import gpu_peak
from pipeloom.core.planning.cost.fit import CPU_USUAL, default_calibration
from pipeloom.core.planning.cost.hardware import BlockTime, Calibration, Device, Machines, Network
from pipeloom.core.planning.cost.units import (
    BYTES,
    BYTES_A_SECOND,
    FLOPS,
    NUMBER,
    SECONDS,
    parse_quantity,
    write_quantity,
)

_NETWORKS = ("inside", "between", "hidden", "gradients")
_OF_CONSTANTS = dict.fromkeys(("launch", "head_launch", "sync", "step"), SECONDS)
_SHARES = ("efficiency", "inside", "between", "sends", "overlap")
_MEASURED = ("kind", "tokens", "flops", "forward", "backward")


class _Part:
    """A mapping of the file, which knows where it stands in it."""

    def __init__(self, content: Any, where: str, known: Sequence[str], inner: bool = True) -> None:
        if not isinstance(content, dict):
            raise UsageError(f"{where}: it must have the keys {', '.join(known)}, not {content!r}")
        for key in content:
            if key not in known:
                raise UsageError(
                    f"{where}: no key '{key}'{did_you_mean(str(key), known)}; there are: {', '.join(known)}"
                )
        self.content, self.where, self._inner = content, where, inner

    def at(self, key: str) -> str:
        return f"{self.where}{'.' if self._inner else ': '}{key}"

    def need(self, key: str) -> Any:
        if self.content.get(key) is None:
            raise UsageError(f"{self.at(key)} is missing")
        return self.content[key]

    def quantity(self, key: str, units: Mapping[str, float], default: Optional[float] = None) -> float:
        if default is not None and self.content.get(key) is None:
            return default
        return parse_quantity(self.need(key), units, self.at(key))

    def count(self, key: str) -> int:
        value = self.need(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{self.at(key)}: {value!r} must be a whole number, 1 or more")
        return value

    def part(self, key: str, known: Sequence[str]) -> _Part:
        return _Part(self.need(key), self.at(key), known)


def read_machines(path: str) -> Machines:
    """Read the machines of a ``cluster.yaml``. Raises ``UsageError``, a line that names file and key."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--cluster {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UsageError(f"--cluster {path}{where}: it is no YAML: {getattr(error, 'problem', error)}") from None
    top = ("name", "nodes", "devices_per_node", "sharing", "device", "networks", "calibration", "measured")
    whole = _Part(content, path, top, inner=False)
    nodes, devices = whole.count("nodes"), whole.count("devices_per_node")
    networks = whole.part("networks", _NETWORKS)
    found = {
        name: _network(networks.part(name, ("bandwidth", "latency", "groups")))
        for name in _NETWORKS
        if networks.content.get(name) is not None
    }
    if "between" not in found:
        if nodes > 1:
            raise UsageError(f"{networks.at('between')} is missing: {nodes} nodes are joined by a network")
        found["between"] = found.get("inside", Network(1e9, 1e-5))
    if "inside" not in found:
        if devices > 1:
            raise UsageError(f"{networks.at('inside')} is missing: {devices} devices of a node are joined by one")
        found["inside"] = found["between"]
    device = _device(whole.part("device", ("name", "type", "memory", "memory_bandwidth", "peak")))
    return Machines(
        str(whole.content.get("name") or Path(path).stem),
        nodes,
        devices,
        device,
        **found,
        sharing=whole.quantity("sharing", NUMBER, 1.0),
        calibration=_calibration(whole, device.type),
        measured=tuple(_measured(whole)),
    )


def _network(part: _Part) -> Network:
    groups: Dict[int, float] = {}
    for size, rate in (part.content.get("groups") or {}).items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise UsageError(f"{part.at('groups')}: '{size}' must be a number of devices, 2 or more")
        groups[size] = parse_quantity(rate, BYTES_A_SECOND, f"{part.at('groups')}.{size}")
    return Network(part.quantity("bandwidth", BYTES_A_SECOND), part.quantity("latency", SECONDS), groups)


def _device(part: _Part) -> Device:
    name, kind = str(part.need("name")), part.need("type")
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"{part.at('type')}: {kind!r} must be cpu or cuda")
    if part.content.get("peak") is None:
        single, half = gpu_peak(name, False), gpu_peak(name, True)
        if single is None or half is None:
            raise UsageError(f"{part.at('peak')} is missing, and '{name}' is no GPU whose peak is known")
        peak = {"float32": single, "float16": half}
    else:
        peaks = part.part("peak", ("float32", "float16"))
        peak = {key: peaks.quantity(key, FLOPS) for key in peaks.content}
        if "float32" not in peak:
            raise UsageError(f"{peaks.at('float32')} is missing")
    return Device(name, kind, part.quantity("memory", BYTES), part.quantity("memory_bandwidth", BYTES_A_SECOND), peak)


def _calibration(whole: _Part, kind: str) -> Calibration:
    usual = CPU_USUAL if kind == "cpu" else default_calibration()
    if whole.content.get("calibration") is None:
        return usual
    names = [one.name for one in fields(Calibration)]
    part = whole.part("calibration", names)
    values = {}
    for name in names:
        units = _OF_CONSTANTS.get(name, NUMBER)
        stated = part.content.get(name)
        zero = isinstance(stated, (int, float)) and not isinstance(stated, bool) and stated == 0
        values[name] = 0.0 if zero else part.quantity(name, units, getattr(usual, name))
        if name in _SHARES and values[name] > 1:
            raise UsageError(f"{part.at(name)}: {stated}: it is a share, 1 at the most")
    return Calibration(**values)


def _measured(whole: _Part) -> List[BlockTime]:
    rows = whole.content.get("measured") or []
    if not isinstance(rows, list):
        raise UsageError(f"{whole.at('measured')}: it must be a list of rows with {', '.join(_MEASURED)}")
    found = []
    for number, row in enumerate(rows, start=1):
        part = _Part(row, whole.at(f"measured[{number}]"), _MEASURED)
        found.append(
            BlockTime(
                str(part.need("kind")),
                part.quantity("tokens", NUMBER),
                part.quantity("flops", NUMBER),
                part.quantity("forward", SECONDS),
                part.quantity("backward", SECONDS),
            )
        )
    return found


def write_machines(path: str, machines: Machines, comment: str = "") -> None:
    """Write ``machines`` as ``read_machines`` reads them, with ``comment`` above; the file appears whole."""
    device = machines.device
    content: Dict[str, Any] = {
        "name": machines.name,
        "nodes": machines.nodes,
        "devices_per_node": machines.devices_per_node,
        "sharing": float(f"{machines.sharing:.6g}"),
        "device": {
            "name": device.name,
            "type": device.type,
            "memory": write_quantity(device.memory, BYTES),
            "memory_bandwidth": write_quantity(device.memory_bandwidth, BYTES_A_SECOND),
            "peak": {name: write_quantity(value, FLOPS) for name, value in device.peak.items()},
        },
        "networks": {name: _written(one) for name, one in _networks(machines)},
        "calibration": {
            one.name: 0 if not value else write_quantity(value, _OF_CONSTANTS.get(one.name, NUMBER))
            for one in fields(Calibration)
            for value in [getattr(machines.calibration, one.name)]
        },
    }
    if machines.measured:
        content["measured"] = [
            {
                "kind": row.kind,
                "tokens": float(row.tokens),
                "flops": float(row.flops),
                "forward": write_quantity(row.forward, SECONDS),
                "backward": write_quantity(row.backward, SECONDS),
            }
            for row in machines.measured
        ]
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    replace_file(Path(path), (lines + text).encode())


def _networks(machines: Machines) -> List[Tuple[str, Network]]:
    named = [(name, getattr(machines, name)) for name in _NETWORKS]
    return [(name, one) for name, one in named if one is not None]


def _written(network: Network) -> Dict[str, Any]:
    written: Dict[str, Any] = {
        "bandwidth": write_quantity(network.bandwidth, BYTES_A_SECOND),
        "latency": write_quantity(network.latency, SECONDS),
    }
    if network.groups:
        written["groups"] = {
            size: write_quantity(rate, BYTES_A_SECOND) for size, rate in sorted(network.groups.items())
        }
    return written
