"""What each operation of the training graph is for, and when it ran on this rank."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Set, Tuple

import oneflow as flow

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract import recording
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.recording import Recording, TimedOperation, Transfer
from pipeloom.plugins.executors.oneflow.kernel_times import KernelTimes, Launch
from pipeloom.plugins.executors.oneflow.passes import TracedPasses

if TYPE_CHECKING:
    from pipeloom.plugins.executors.oneflow.graph import PipelineGraph

#: Operations that the engine's job has beside those of the graph: they wait, or count.
_BOOKKEEPING = ("tick", "critical_section", "wait_and_send", "callback_notify", "reentrant_lock", "case", "esac")


class JobWork:
    """What the operations of a compiled ``job`` are for (one of ``recording.WORK``), by name."""

    def __init__(self, job: Any, passes: TracedPasses, placement: Placement) -> None:
        self.operations = {operation.name: operation for operation in job.net.op}
        self._passes = passes
        self._stage = {
            name: placement.stage_of(_first_rank(group.parallel_conf.device_name))
            for group in job.placement.placement_group
            for name in group.op_set.op_name
        }
        self._readers: Dict[str, Set[str]] = defaultdict(set)
        for operation in job.net.op:
            for producer in _producers(operation):
                self._readers[producer].add(operation.name)

    def work_of(self, description: Any) -> Optional[str]:
        """Return the work of a kernel by its description; ``None`` for the engine's bookkeeping."""
        operation = self.operation_of(description)
        kind = type_of(operation)
        if any(text in kind for text in _BOOKKEEPING):
            return None
        if operation.name in self.operations:
            return self._of_operation(operation.name)
        source = _carried(operation)
        if source is None:
            return "other"
        leaves = any(self._stage.get(reader) != self._stage.get(source) for reader in self._readers[source])
        return "transfer" if leaves else "all_reduce"

    def operation_of(self, description: Any) -> Any:
        """Return the ``OperatorConf`` that a kernel runs."""
        name = description.op_attribute_ref
        return self.operations[name] if name in self.operations else description.op_attribute.op_conf

    def transfers(self) -> Tuple[Transfer, ...]:
        """Return what goes from one stage to another by the forward and the backward pass."""
        return tuple(
            Transfer(producer, self._stage[producer], consumer, self._stage[consumer])
            for producer, readers in self._readers.items()
            for consumer in sorted(readers)
            if producer in self._stage
            and self._stage[producer] != self._stage.get(consumer, self._stage[producer])
            and self._of_operation(producer) in ("forward", "backward")
        )

    def _of_operation(self, name: str, depth: int = 0) -> str:
        traced = self._passes.of(name)
        if traced is not None:
            return traced
        operation = self.operations.get(name)
        if operation is None:
            return "other"
        if "Checkpointing" in name:  # computed again for the backward pass
            return "backward"
        kind = type_of(operation)
        if kind.startswith("identity") or kind == "boxing_identity" or "Buffer" in name:  # put in for what it is given
            producers = _producers(operation)
            return self._of_operation(producers[0], depth + 1) if producers and depth < 8 else "other"
        return "forward" if kind == "input" else "update"


class GraphRecorder(recording.Recorder):
    """Record the steps of a ``GraphTraining``."""

    def __init__(self, graph: "PipelineGraph", placement: Placement) -> None:
        if placement.cluster.device_type != "cpu":
            raise UsageError(
                "--profile records the launches of kernels, which on a GPU say nothing of when they run: profile with "
                "--device cpu, or use Nsight Systems (nsys profile)"
            )
        self._graph, self._placement = graph, placement
        self._times = KernelTimes()
        graph.passes.wanted = True
        self._steps, self._began = 0, 0

    def count_step(self) -> None:
        """Note that a step is begun."""
        self._steps += 1

    def start(self) -> None:
        _wait()
        self._steps, self._began = 0, time.perf_counter_ns()
        self._times.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what runs meanwhile: another graph, with operations of the same names."""
        _wait()
        recorded = self._times.pause()
        yield
        _wait()
        if recorded:
            self._times.resume()

    def stop(self) -> Recording:
        _wait()
        self._times.pause()
        ended = time.perf_counter_ns()
        work = JobWork(self._graph.compiled_job, self._graph.passes, self._placement)
        return Recording(
            self._label(work, self._times.launches()),
            work.transfers(),
            self._steps,
            self._began,
            ended,
            self._times.lost,
        )

    def _label(self, work: JobWork, launches: List[Launch]) -> List[TimedOperation]:
        """The launches as operations. The n-th run of an operation in a step is that of micro-batch n."""
        micro_batches = self._graph.settings.micro_batches
        known = {}
        for kernel in {launch.kernel for launch in launches}:
            description = self._times.description(kernel)
            operation = work.operation_of(description)
            known[kernel] = (operation.name, type_of(operation), work.work_of(description))
        runs = Counter(launch.kernel for launch in launches)
        done: Counter = Counter()
        operations = []
        for launch in sorted(launches, key=lambda launch: launch.begin):
            name, kind, what = known[launch.kernel]
            if what is None:
                continue
            step, part = position(done[launch.kernel], runs[launch.kernel], self._steps, micro_batches, kind == "acc")
            done[launch.kernel] += 1
            operations.append(TimedOperation(name, kind, what, step, part, launch.begin, launch.end, launch.thread))
        return operations


def position(number: int, runs: int, steps: int, micro_batches: int, adds_up: bool) -> Tuple[int, Optional[int]]:
    """Return the step and the micro-batch of run ``number`` of ``runs``.

    What ``adds_up`` is not launched for the first micro-batch of a step: there is nothing to add to.
    """
    first = 1 if adds_up and micro_batches > 1 else 0
    if runs == steps * (micro_batches - first):
        step, micro_batch = divmod(number, micro_batches - first)
        return step, micro_batch + first
    each = max(1, runs // max(1, steps))
    return min(number // each, steps - 1), None


def type_of(operation: Any) -> str:
    """Return what an ``OperatorConf`` computes: ``matmul``, ``adam_update``, ``slice_boxing_copy``."""
    kind = operation.WhichOneof("op_type") or ""
    return operation.user_conf.op_type_name if kind == "user_conf" else kind[: -len("_conf")]


def _producers(operation: Any) -> List[str]:
    """Return the operations whose results an ``OperatorConf`` reads."""
    if operation.HasField("user_conf"):
        return [blob.rsplit("/", 1)[0] for values in operation.user_conf.input.values() for blob in values.s]
    carried = _carried(operation)
    if carried is not None:
        return [carried]
    blobs = getattr(_conf(operation), "in", None) or ()
    return [blob.rsplit("/", 1)[0] for blob in ([blobs] if isinstance(blobs, str) else blobs)]


def _carried(operation: Any) -> Optional[str]:
    """Return the operation whose result is copied or added up by one that is there for that alone."""
    conf = _conf(operation)
    conf = getattr(conf, "slice_boxing_conf", conf)
    return conf.lbi.op_name if hasattr(conf, "lbi") else None


def _conf(operation: Any) -> Any:
    kind = operation.WhichOneof("op_type")
    return getattr(operation, kind) if kind else None


def _first_rank(devices: Any) -> int:
    """Return the first rank of a placement in the engine's words (``@1:0``)."""
    return int(devices[0].lstrip("@").split(":")[0])


def _wait() -> None:
    flow._oneflow_internal.eager.Sync()
