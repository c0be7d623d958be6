"""Clipping inside the update: the engine's optimizers multiply a gradient by a number as they read it.

Their operations have an input for it, ``scale_by_tensor``, which the engine itself uses for its loss scale and no
function of Python sets. A product of its own reads and writes each gradient once more, and is an operation for each
parameter to compile and to start.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, NamedTuple

#: The kinds of updates that have the input.
_UPDATES = ("adam_update", "lamb_update", "sgd_update", "momentum_update")


class _Product(NamedTuple):
    """A gradient times a number: the operation, and the blobs that it reads."""

    operation: Any
    gradient: str
    factor: str

    @property
    def result(self) -> str:
        """The blob that it writes."""
        return self.operation.user_conf.output["z"].s[0]


def scale_in_updates(job: Any) -> int:
    """Let the updates of the engine's traced ``job`` do the products that nothing else reads; return how many.

    The job is the engine's ``Job`` between tracing and compiling: names of blobs stand in the operations, in how their
    arguments lie (``job_parallel_view_conf``) and in what they are (``helper``).
    """
    operations = {operation.name: operation for operation in job.net.op}
    readers = Counter(blob for operation in job.net.op for blob in _read(operation))
    gone: Dict[str, _Product] = {}
    for update in job.net.op:
        if not update.HasField("user_conf") or update.user_conf.op_type_name not in _UPDATES:
            continue
        if "scale_by_tensor" in update.user_conf.input:
            continue
        made_by = operations.get(_operation_of(update.user_conf.input["model_diff"].s[0]))
        product = _product(made_by, job.helper.lbn2logical_blob_desc)
        if product is not None and readers[product.result] == 1:
            _hand_over(job, update, product)
            gone[product.operation.name] = product
    _remove(job, gone)
    return len(gone)


def _read(operation: Any) -> List[str]:
    return [blob for values in operation.user_conf.input.values() for blob in values.s]


def _operation_of(blob: str) -> str:
    return blob.rsplit("/", 1)[0]


def _product(operation: Any, descriptions: Any) -> Any:
    """Return what ``operation`` multiplies, if it is a gradient times a single number."""
    if operation is None or operation.user_conf.op_type_name != "broadcast_mul":
        return None
    x, y = (operation.user_conf.input[name].s[0] for name in "xy")
    sizes = descriptions[y].shape.dim
    return _Product(operation, x, y) if all(size == 1 for size in sizes) else None


def _hand_over(job: Any, update: Any, product: _Product) -> None:
    conf = update.user_conf
    conf.input["model_diff"].s[:] = [product.gradient]
    conf.input["scale_by_tensor"].s.append(product.factor)
    conf.input_order.append("scale_by_tensor")
    view = job.job_parallel_view_conf
    sbp = view.op_name2nd_sbp_signature_conf[update.name].bn_in_op2nd_sbp
    for _ in sbp["model_0"].sbp_parallel:
        sbp["scale_by_tensor_0"].sbp_parallel.add().broadcast_parallel.SetInParent()
    if update.name in view.op_name2sbp_signature_conf:
        flat = view.op_name2sbp_signature_conf[update.name].bn_in_op2sbp_parallel
        flat["scale_by_tensor_0"].broadcast_parallel.SetInParent()
    blobs = job.helper.op_name2arg_signature[update.name].bn_in_op2lbi
    for argument, blob in (("model_diff_0", product.gradient), ("scale_by_tensor_0", product.factor)):
        blobs[argument].op_name, blobs[argument].blob_name = blob.rsplit("/", 1)


def _remove(job: Any, gone: Dict[str, _Product]) -> None:
    """Take operations out of the job wherever it knows them."""
    kept = [operation for operation in job.net.op if operation.name not in gone]
    del job.net.op[:]
    job.net.op.extend(kept)
    for group in job.placement.placement_group:
        names = [name for name in group.op_set.op_name if name not in gone]
        group.op_set.op_name[:] = names
    view, helper = job.job_parallel_view_conf, job.helper
    for name, product in gone.items():
        for known in (
            view.op_name2sbp_signature_conf,
            view.op_name2nd_sbp_signature_conf,
            view.op_name2is_local_parallel_view,
            helper.op_name2arg_signature,
        ):
            if name in known:
                del known[name]
        if product.result in helper.lbn2logical_blob_desc:
            del helper.lbn2logical_blob_desc[product.result]
    # The model's gradients, for who wants to log them: where they are now.
    moved = {product.result: product.gradient for product in gone.values()}
    for conf in job.job_conf.train_conf.optimizer_conf:
        conf.variable_grad_lbns[:] = [moved.get(blob, blob) for blob in conf.variable_grad_lbns]
    for group in job.placement.blob_placement_group:
        lost = [number for number, blob in enumerate(group.lbi) if blob.op_name in gone]
        for number in reversed(lost):
            del group.lbi[number]
    for module in job.module_name2module_conf.values():
        module.ops[:] = [name for name in module.ops if name not in gone]
