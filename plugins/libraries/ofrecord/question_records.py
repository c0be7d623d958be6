"""Records of questions about texts, as the public SQuAD sets have them: fields, rules, facts of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.record_kinds import RecordRule
from pipeloom.plugins.libraries.ofrecord.record_rules import SpecialIds, answer_rules, text_rules

META = "meta.json"
#: What the records of each split have besides input_ids, input_mask and segment_ids.
SPLITS = {"train": ("start_positions", "end_positions"), "eval": ("unique_ids",)}


def fields_of(split: str, seq_length: int, vocab_size: int) -> List[Field]:
    """The fields of the public SQuAD sets, in the order in which a model reads them."""
    fields = [
        Field("input_ids", (seq_length,), "int32", low=0, high=vocab_size),
        *(Field(name, (seq_length,), "int32", low=0, high=2) for name in ("input_mask", "segment_ids")),
    ]
    high = None if split == "eval" else seq_length
    return [*fields, *(Field(name, (1,), "int32", low=0, high=high) for name in SPLITS[split])]


def rules_of(split: str, folder: Path) -> List[RecordRule]:
    """What the records in ``folder`` keep, where its vocabulary has BERT's special tokens."""
    special = SpecialIds.beside(folder)
    return [] if special is None else text_rules(special) if split == "eval" else answer_rules(special)


def read_meta(folder: Path) -> Dict[str, Any]:
    """The ``meta.json`` of a folder of SQuAD inputs. Raises ``UsageError`` where ``folder`` is not one."""
    try:
        meta = json.loads((folder / META).read_bytes())
        for where, names in _META.items():
            for name, kind in names.items():
                if not isinstance((meta[where] if where else meta)[name], kind):
                    raise TypeError(name)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raw = " (raw files are named one by one, with commas between them)" if folder.is_dir() else ""
        raise UsageError(f"{folder} is not a folder of SQuAD inputs: make one with 'prepare squad'{raw}") from None
    return meta


# What of meta.json is read again, and its types.
_META: Dict[str, Dict[str, Any]] = {
    "": {"num_samples": int, "questions": int, "reasons": list, "version_2": bool, "vocab_size": int},
    "settings": {
        "format": int,
        "split": str,
        "lowercase": (bool, type(None)),
        "seq_length": int,
        "doc_stride": int,
        "max_query_length": int,
        "vocab": str,
        "input": str,
    },
}
