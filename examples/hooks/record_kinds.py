"""What ``prepare validate`` and ``prepare inspect`` know of the records of ``prepare_kinds.py``."""

import pipeloom
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.record_kinds import RecordChecks, RecordKind, RecordRule


def adds_up(batch):
    return batch["digits"].sum(1) == batch["total"][:, 0]


def checks(record, folder):
    fields = [Field("digits", (8,), "int32", low=0, high=10), Field("total", (1,), "int32")]
    return RecordChecks(fields, rules=[RecordRule(("digits", "total"), adds_up, "its digits do not add up")])


def lines(record, tokenizer):
    return [f"  {' + '.join(map(str, record['digits']))} = {record['total'][0]}"]


@pipeloom.hookimpl
def pipeloom_record_kinds():
    return [RecordKind("rows of digits", lambda record: "digits" in record, checks, lines)]
