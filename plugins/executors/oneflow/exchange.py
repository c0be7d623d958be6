"""Short messages between all ranks, through the engine: rare, and a point where they wait for each other."""

from __future__ import annotations

import json
from typing import List

import numpy as np
import oneflow as flow

from pipeloom.core.contract.executor import Collectives
from pipeloom.core.contract.topology import Cluster

#: Bytes of a message that travel; what is longer is cut.
_WIDTH = 512


class EngineCollectives(Collectives):
    """Exchange texts by the engine's own connections."""

    def __init__(self, cluster: Cluster) -> None:
        self._device = cluster.device_type
        self._everywhere = flow.placement(cluster.device_type, list(range(cluster.size)))

    def all_gather_text(self, text: str) -> List[str]:
        row = np.zeros((1, _WIDTH), np.int32)
        content = text.encode()[:_WIDTH]
        row[0, : len(content)] = np.frombuffer(content, np.uint8)
        local = flow.from_numpy(row)
        local = local if self._device == "cpu" else local.to(self._device)
        rows = local.to_global(placement=self._everywhere, sbp=[flow.sbp.split(0)], check_meta=False)
        table = rows.to_global(placement=self._everywhere, sbp=[flow.sbp.broadcast]).to_local().numpy()
        return [bytes(line.astype(np.uint8)).rstrip(b"\0").decode(errors="replace") for line in table]

    def broadcast_text(self, text: str) -> str:
        content = json.dumps(text)  # ASCII: a character a byte
        length = int(self.all_gather_text(str(len(content)))[0])
        pieces = (self.all_gather_text(content[start : start + _WIDTH])[0] for start in range(0, length, _WIDTH))
        return json.loads("".join(pieces))
