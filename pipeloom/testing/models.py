"""Checks of models, and of the heads of tasks on them: what is stated against what is built, without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from pipeloom.core.contract.blocks import BatchSize, ModelSpec
from pipeloom.testing.check import need
from pipeloom.testing.recording import SAMPLES, Recorded, elements, record, shape_of
from pipeloom.testing.subject import Subject
from pipeloom.testing.symbols import BYTES

#: How far stated FLOPs may be from those of the products, and how many may come on top for each number that a block
#: gets or hands on: additions, norms and activations, which are not counted.
FLOPS_TOLERANCE, FLOPS_BY_ELEMENT = 0.05, 32.0
#: The same of kept bytes: an engine keeps some tensors twice and fuses others, so a factor; and three numbers for each.
KEPT_FACTOR, KEPT_BY_ELEMENT = 1.25, 3 * BYTES


def _recorded(subject: Subject, training: bool = True, tensor: int = 1) -> List[Recorded]:
    return record(subject.plan.model, subject.plan.fields, training, tensor)


def takes_the_parameters_it_declares(subject: Subject, folder: Path) -> None:
    in_training, in_evaluation = _recorded(subject), _recorded(subject, training=False)
    for one, other in zip(in_training, in_evaluation):
        where = f"block '{one.block.name}'"
        for spec in one.block.parameters:
            need(
                spec.name in one.taken,
                f"{where} declares the parameter '{spec.name}' and never takes it by scope.parameter: use it, or "
                "remove its ParameterSpec",
            )
            need(
                one.taken[spec.name].used or other.taken[spec.name].used,
                f"{where} takes the parameter '{spec.name}' and computes nothing with it: use it, or remove its "
                "ParameterSpec",
            )


def reads_the_fields_it_states(subject: Subject, folder: Path) -> None:
    """Each rank loads the fields of its own blocks: one that is named for nothing is read for nothing."""
    in_training, in_evaluation = _recorded(subject), _recorded(subject, training=False)
    for one, other in zip(in_training, in_evaluation):
        unread = sorted(set(one.block.inputs) - one.read - other.read)
        need(
            not unread,
            f"block '{one.block.name}' names the fields {', '.join(unread)} in 'inputs' and never reads them: remove "
            "them there",
        )


def returns_what_it_states(subject: Subject, folder: Path) -> None:
    """Losses as single numbers, in evaluation metrics and outputs per sample too; hidden states by sample."""
    model = subject.plan.model
    for training, names in ((True, model.outputs), (False, model.evaluated)):
        *blocks, last = _recorded(subject, training)
        for one in blocks:
            shape = shape_of(one.result)
            need(
                len(shape) > 1 and shape[0] == SAMPLES,
                f"block '{one.block.name}' hands on {shape or type(one.result).__name__} for {SAMPLES} samples: hidden "
                "states have samples along dimension 0",
            )
        _check_results(last, training, names, model)


def _check_results(last: Recorded, training: bool, names: Any, model: ModelSpec) -> None:
    where, when = f"block '{last.block.name}'", "training" if training else "evaluation"
    need(isinstance(last.result, dict), f"{where}, the last, returns {type(last.result).__name__}, not a dict of sums")
    for name in names:
        need(
            name in last.result,
            f"{where} returns no '{name}' in {when}: return it, or take it out of 'losses' and 'metrics'",
        )
        need(
            elements(last.result[name]) == 1,
            f"{where} returns '{name}' of shape {shape_of(last.result[name])}: it must be one number, the weighted sum "
            "over the samples (.sum())",
        )
    for name, shape in {} if training else dict(model.scores).items():
        need(
            shape_of(last.result.get(name)) == (SAMPLES, *shape),
            f"{where} returns the output '{name}' of shape {shape_of(last.result.get(name))} for {SAMPLES} samples, "
            f"declared are {tuple(shape)} of each sample",
        )


def states_the_flops_it_computes(subject: Subject, folder: Path) -> None:
    batch = BatchSize.of(SAMPLES, subject.config.seq_length)
    for one in _recorded(subject):
        stated, counted = one.block.cost.of(batch).flops, one.tally.flops
        more = FLOPS_BY_ELEMENT * max(elements(one.before), elements(one.result))
        need(
            (1 - FLOPS_TOLERANCE) * counted <= stated <= (1 + FLOPS_TOLERANCE) * counted + more,
            f"block '{one.block.name}' states {stated:.0f} FLOPs for {SAMPLES} samples, its products are {counted:.0f} "
            f"(a multiply-add counts 2; {FLOPS_TOLERANCE:.0%} and {FLOPS_BY_ELEMENT:.0f} for each value that it gets "
            "or hands on are allowed): correct 'flops' and 'flops_per_sample' of its Cost",
        )


def states_the_bytes_it_keeps(subject: Subject, folder: Path) -> None:
    batch = BatchSize.of(SAMPLES, subject.config.seq_length)
    *blocks, _ = recorded = _recorded(subject)
    for one in recorded:
        stated, counted = one.block.cost.of(batch).kept_bytes, one.tally.kept_bytes
        slack = KEPT_BY_ELEMENT * max(elements(one.before), elements(one.result))
        need(
            counted / KEPT_FACTOR - slack <= stated <= KEPT_FACTOR * counted + slack,
            f"block '{one.block.name}' states that it keeps {stated:.0f} bytes of {SAMPLES} samples for the backward "
            f"pass, the inputs of what it computes are {counted:.0f} (a factor of {KEPT_FACTOR:g} and "
            f"{KEPT_BY_ELEMENT} bytes for each value that it gets or hands on are allowed): correct 'kept_bytes' and "
            "'kept_bytes_per_sample' of its Cost",
        )
    for one in blocks:
        stated, counted = one.block.cost.of(batch).output_bytes, BYTES * elements(one.result)
        need(
            stated == counted,
            f"block '{one.block.name}' states that it hands on {stated:.0f} bytes of {SAMPLES} samples, it is "
            f"{counted}: correct 'output_bytes' and 'output_bytes_per_sample' of its Cost",
        )


def splits_over_tensor_groups(subject: Subject, folder: Path) -> None:
    """With sizes that are filled up for groups of two, the blocks still fit together."""
    if tensor_refusal(subject):
        return
    for training in (True, False):
        record(subject.plan.model, subject.plan.fields, training, tensor=2)


def tensor_refusal(subject: Subject) -> str:
    """Why the model has no tensor parallelism; "" where it has."""
    if all(spec.tensor_dim is None for spec in subject.plan.model.parameters):
        return "no parameter has a tensor_dim"
    return subject.refusal("--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "1", "--tensor_parallel", "2")


def drawn_weights(model: ModelSpec) -> Dict[str, np.ndarray]:
    """A value for each parameter, no two alike: what folders are compared by."""
    generator = np.random.default_rng(15)
    return {spec.name: generator.standard_normal(spec.shape).astype(np.float32) for spec in model.parameters}
