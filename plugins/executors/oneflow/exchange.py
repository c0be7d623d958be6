"""Short messages between all ranks, through the engine: rare, and a point where they wait for each other."""

from __future__ import annotations

import json
import statistics
import time
from typing import List, Optional, Sequence

import numpy as np
import oneflow as flow

from pipeloom.core.contract.executor import Collectives
from pipeloom.core.contract.topology import Cluster

#: Bytes of a message that travel; what is longer is cut.
_WIDTH = 512
#: Numbers of four bytes that a rank sends at a time of a content of any length.
_PIECE = 1 << 18
#: How often an exchange is repeated.
_TIMES = 6


class EngineCollectives(Collectives):
    """Exchange texts by the engine's own connections."""

    def __init__(self, cluster: Cluster) -> None:
        self._device = cluster.device_type
        self._everywhere = flow.placement(cluster.device_type, list(range(cluster.size)))

    def exchange_seconds(self, kind: str, ranks: Sequence[int], amount: int) -> Optional[float]:
        numbers = max(1, amount // 4)
        self.all_gather_text("")  # all begin together
        times = []
        for _ in range(_TIMES):
            began = time.perf_counter()
            if kind == "send":
                here, there = (flow.placement(self._device, [rank]) for rank in ranks)
                whole = flow.zeros(numbers, placement=here, sbp=flow.sbp.broadcast)
                part = whole.to_global(placement=there, sbp=flow.sbp.broadcast)
            else:
                group = flow.placement(self._device, list(ranks))
                part = flow.zeros(numbers, placement=group, sbp=flow.sbp.partial_sum).to_global(sbp=flow.sbp.broadcast)
            local = part.to_local()
            if local.numel():
                local[0].item()  # waits for it
            times.append(time.perf_counter() - began)
        return statistics.median(times[_TIMES // 2 :])  # a link that was idle lets the first ones through more quickly

    def all_gather_text(self, text: str) -> List[str]:
        row = np.zeros((1, _WIDTH), np.int32)
        content = text.encode()[:_WIDTH]
        row[0, : len(content)] = np.frombuffer(content, np.uint8)
        table = self._rows(row).to_global(placement=self._everywhere, sbp=[flow.sbp.broadcast]).to_local().numpy()
        return [bytes(line.astype(np.uint8)).rstrip(b"\0").decode(errors="replace") for line in table]

    def broadcast_text(self, text: str) -> str:
        content = json.dumps(text)  # ASCII: a character a byte
        length = int(self.all_gather_text(str(len(content)))[0])
        pieces = (self.all_gather_text(content[start : start + _WIDTH])[0] for start in range(0, length, _WIDTH))
        return json.loads("".join(pieces))

    def gather_bytes(self, content: bytes) -> Optional[List[bytes]]:
        sizes = [int(text) for text in self.all_gather_text(str(len(content)))]
        words = np.zeros(-(-max(sizes) // 4), np.int32)
        words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
        main, is_main = flow.placement(self._device, [0]), flow.env.get_rank() == 0
        tables = []
        for start in range(0, len(words), _PIECE):
            rows = self._rows(words[None, start : start + _PIECE]).to_global(placement=main, sbp=[flow.sbp.broadcast])
            if is_main:
                tables.append(rows.to_local().numpy().copy())
        if not is_main:
            return None
        whole = np.concatenate(tables, axis=1) if tables else np.zeros((len(sizes), 0), np.int32)
        return [row.tobytes()[:size] for row, size in zip(whole, sizes)]

    def _rows(self, row: np.ndarray) -> flow.Tensor:
        """Return the rows ``(1, N)`` of all ranks as one tensor that is split over them."""
        local = flow.from_numpy(np.ascontiguousarray(row))
        local = local if self._device == "cpu" else local.to(self._device)
        return local.to_global(placement=self._everywhere, sbp=[flow.sbp.split(0)], check_meta=False)
