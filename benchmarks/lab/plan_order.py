"""Which operations of a compiled plan can run before which, by the registers that they share.

OneFlow gives what an operation puts out one register, or a few. The operation runs when each of its inputs is there and
a register of its output is free, which is when all who read its last value have run. Times play no part.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from math import prod
from typing import Callable, Dict, List

from oneflow.core.job import task_pb2


@dataclass(eq=False)
class Register:
    """``values``: of a step. ``readers``: by the number of a value, how many have still to read it."""

    producer: "Operation"
    consumers: List["Operation"]
    values: int
    free: int
    lies_in: int = -1  # the id of the register whose memory it takes over
    made: int = 0
    readers: Dict[int, int] = field(default_factory=dict)


@dataclass(eq=False)
class Operation:
    """``runs``: in a step, once for each micro-batch or once; ``done`` of them."""

    name: str
    rank: int
    inputs: List[int] = field(default_factory=list)
    outputs: List[int] = field(default_factory=list)
    runs: int = 1
    done: int = 0


class PlanOrder:
    """The operations of ``plan`` (a ``plan_pb2.Plan``) and what they wait for."""

    def __init__(self, plan) -> None:
        self._operations = {task.task_id: Operation(name_of(task), task.machine_id) for task in plan.task}
        self._registers: Dict[int, Register] = {}
        described = {
            register.regst_desc_id: (task, register)
            for task in plan.task
            for register in task.produced_regst_desc.values()
        }
        for id_, (task, register) in described.items():
            operation = self._operations[task.task_id]
            # Without a shape in time: a control register, one for each run of its producer.
            values = prod(register.regst_desc_type.data_regst_desc.time_shape.dim) if _is_data(register) else 0
            consumers = [self._operations[other] for other in register.consumer_task_id]
            self._registers[id_] = Register(operation, consumers, values, register.register_num)
            operation.outputs.append(id_)
            if task.task_type == task_pb2.kRepeat:
                self._registers[id_].free = values  # the memory of the variable, lent as often as it is repeated
            else:
                self._registers[id_].lies_in = register.inplace_consumed_regst_desc_id
        for task in plan.task:
            operation = self._operations[task.task_id]
            operation.inputs = [id_ for ids in task.consumed_regst_desc_id.values() for id_ in ids.regst_desc_id]
            operation.runs = max([self._registers[id_].values for id_ in (*operation.inputs, *operation.outputs)] + [1])
        for register in self._registers.values():
            register.values = register.values or register.producer.runs

    def runs_without(self, stopped: Callable[[str, int], bool]) -> Counter:
        """How often each operation runs in a step in which those for which ``stopped(name, rank)`` is true never do.

        Keys are ``(name, rank)``. A plan can be played once.
        """
        waiting = deque(self._operations.values())
        while waiting:
            operation = waiting.popleft()
            while not stopped(operation.name, operation.rank) and self._ready(operation):
                waiting.extend(self._run(operation))
        return Counter({(operation.name, operation.rank): operation.done for operation in self._operations.values()})

    def _ready(self, operation: Operation) -> bool:
        if operation.done == operation.runs:
            return False
        for register in map(self._registers.get, operation.inputs):
            if register.made < -(-(operation.done + 1) * register.values // operation.runs):
                return False
        return all(
            register.free or operation.done * register.values % operation.runs
            for register in map(self._registers.get, operation.outputs)
            if register.consumers
        )

    def _run(self, operation: Operation) -> List[Operation]:
        """Run it once; returns who may be ready by that."""
        number, runs = operation.done, operation.runs
        operation.done += 1
        woken: List[Operation] = []
        for register in map(self._registers.get, operation.outputs):
            if register.consumers:
                register.free -= number * register.values % runs == 0
                if (number + 1) * register.values % runs == 0:
                    register.readers[register.made] = len(register.consumers)
                    register.made += 1
                    woken += register.consumers
        taken_over = {self._registers[id_].lies_in for id_ in operation.outputs if self._registers[id_].consumers}
        for id_ in operation.inputs:
            values = self._registers[id_].values
            if id_ not in taken_over:
                for value in range(number * values // runs, (number + 1) * values // runs):
                    woken += self._read(id_, value)
        return woken

    def _read(self, id_: int, value: int) -> List[Operation]:
        """One of the readers of a value is done with it."""
        register = self._registers[id_]
        register.readers[value] -= 1
        if register.readers[value]:
            return []
        register.free += 1
        below = self._read(register.lies_in, value) if register.lies_in in self._registers else []
        return [register.producer, *below]


def name_of(task) -> str:
    """Return the name of the operation that a task runs."""
    kernel = task.exec_sequence.exec_node[0].kernel_conf if task.exec_sequence.exec_node else None
    return "" if kernel is None else kernel.op_attribute_ref or kernel.op_attribute.op_conf.name


def _is_data(register) -> bool:
    return register.regst_desc_type.WhichOneof("type") == "data_regst_desc"
