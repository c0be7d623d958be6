"""Published memory of ranks on GPUs beside what the engine's answer predicts."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from accuracy.models import model_of
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.blocks import BatchSize, Block
from pipeloom.core.contract.rank_load import RankLoad
from pipeloom.plugins.executors.oneflow.gpu_memory import gpu_memory

MIB = 2.0**20
_COLUMNS = ("rank0_mib", "rank1_mib", "rank2_mib", "rank3_mib")


@dataclass(frozen=True)
class MemoryRow:
    """A rank of a run: what it is, MiB measured and predicted."""

    name: str
    rank: str
    measured: float
    predicted: float

    @property
    def off(self) -> float:
        return self.predicted / self.measured - 1


def read_memory(path: str) -> Tuple[List[MemoryRow], List[str]]:
    """Return the rows of a table of memory, and notes. Raises ``UsageError`` for a table of another kind."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    found: List[MemoryRow] = []
    notes: List[str] = []
    for number, row in enumerate(rows, start=1):
        if not row.get("layers") or not row.get("hidden"):
            notes.append(f"row {number}: its sizes are not known")
            continue
        if "rank0_mib" in row:
            found += _of_ranks(number, row)
        elif "memory_mib" in row:
            sizes = [_mib(row, stage) for stage in range(int(row["pipeline"]))]
            found.append(MemoryRow(row["case"], "fullest", float(row["memory_mib"]), max(sizes)))
        else:
            raise UsageError(f"{path}: a table of memory has the columns rank0_mib ... or memory_mib")
    return found, notes


def _of_ranks(number: int, row: Mapping[str, str]) -> List[MemoryRow]:
    inter = "inter_first" in row["placement"]
    found = []
    for rank, column in enumerate(_COLUMNS):
        stage = rank // 2 if inter else rank % 2
        name = f"{number}: {row['layers']} x {row['hidden']}, {row['micro_batch_over_all_dp']} at once"
        found.append(MemoryRow(name, f"{rank}, stage {stage}", float(row[column]), _mib(row, stage)))
    return found


def _mib(row: Mapping[str, str], stage: int) -> float:
    return sum(gpu_memory(_load(row, stage)).values()) / MIB


def _load(row: Mapping[str, str], stage: int) -> RankLoad:
    """What a rank of a stage has to hold, by the row: Adam, the logits of all positions kept, tables untied for BERT."""
    is_bert = "bert" in row["model"].lower()
    sizes = [int(row[name]) for name in ("layers", "hidden", "heads", "seq_length", "vocab")]
    model = model_of("bert" if is_bert else "gpt2", *sizes, not is_bert)
    stages, data, tensor = (int(row[name]) for name in ("pipeline", "data", "tensor"))
    samples, micro_batches = _batch(row, data)
    width = 0.5 if row["precision"].startswith("fp16") else 1.0
    batch = BatchSize.of(samples, sizes[3])
    blocks = _stage(model.blocks, sizes[0], stages, stage)
    logits = samples * sizes[3] * sizes[4] * 4.0 if stage == stages - 1 and not is_bert else 0.0
    kept = [block.cost.of(batch).kept_bytes * width for block in blocks]
    again = row["recompute" if "recompute" in row else "precision"] == "full"
    layers = [position for position, block in enumerate(blocks) if block.layer and again]
    parameters = 4.0 * sum(
        spec.size / (tensor if spec.tensor_dim is not None else 1) for block in blocks for spec in block.parameters
    )
    return RankLoad(
        device_type="cuda",
        stage=stage,
        stages=stages,
        data=data,
        tensor=tensor,
        blocks=len(model.blocks),
        own_blocks=len(blocks),
        micro_batches=micro_batches,
        parameters=parameters,
        whole=parameters,
        updated=parameters,
        masters=False,
        states=2,
        between_steps=False,
        clipped=True,
        kept=sum(size for position, size in enumerate(kept) if position not in layers) + logits * width,
        recomputed=sum(kept[position] for position in layers),
        boundaries=sum(blocks[position].cost.of(batch).output_bytes * width for position in layers),
        largest=max(kept),
        batch=0.0,
    )


def _batch(row: Mapping[str, str], data: int) -> Tuple[float, int]:
    """Samples of a micro-batch on a rank, and micro-batches of a step."""
    if "micro_batch_over_all_dp" in row:
        return int(row["micro_batch_over_all_dp"]) / data, int(row["grad_acc"])
    return float(row["micro_batch"]), int(row["accumulation"])


def _stage(blocks: Sequence[Block], layers: int, stages: int, stage: int) -> Sequence[Block]:
    start = 1 + layers * stage // stages if stage else 0
    end = len(blocks) if stage == stages - 1 else 1 + layers * (stage + 1) // stages
    return blocks[start:end]


def summary(rows: Sequence[MemoryRow]) -> Dict[str, Any]:
    """Return how far off the predictions are."""
    off = [abs(row.off) for row in rows]
    return {"rows": len(rows), "mean": sum(off) / len(off), "largest": max(off)}
