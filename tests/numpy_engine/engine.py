"""The executor of ``core/contract/executor.py``: one stage, one rank, micro-batches one after the other."""

from __future__ import annotations

import numpy as np

from numpy_engine.ops import NumpyScope
from numpy_engine.optimizers import NAMES, NumpyArrays, realised
from numpy_engine.tape import REAL, Tensor
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract import executor
from pipeloom.core.contract.blocks import DROPOUT_SEEDS, NEXT_LOGITS, stage_inputs
from pipeloom.core.contract.optimizer import Part


class NumpyEngine(executor.Executor):
    name, optimizers, packages = "numpy", tuple(NAMES), ("numpy",)

    def check(self, cluster, config):
        if cluster.size != 1:
            raise UsageError(f"the executor 'numpy' has one rank, not {cluster.size}: --nnodes 1 --nproc_per_node 1")

    def build(self, spec):
        return NumpyProgram(spec)

    def collectives(self, cluster, rank):
        return OneRank()


class OneRank(executor.Collectives):
    def all_gather_text(self, text):
        return [text.encode()[:512].decode(errors="replace")]

    def broadcast_text(self, text):
        return text

    def gather_bytes(self, content):
        return [content]


class NumpyProgram(executor.Program):
    def __init__(self, spec):
        self.model = spec.model
        self.arrays = {each.name: np.array(spec.value_of(each), np.float32) for each in self.parameters}
        self.tensors = {name: Tensor(array.astype(REAL)) for name, array in self.arrays.items()}
        self.scope = NumpyScope(self.tensors)
        self.blocks = {block.name: block.build(self.scope) for block in self.model.blocks}
        self.inputs = stage_inputs(self.model.blocks, self.model.blocks)

    @property
    def parameters(self):
        return self.model.parameters

    def train(self, settings, optimizer, schedule, batches):
        return NumpyTraining(self, settings, optimizer, schedule, batches)

    def evaluator(self, batches, scored=()):
        return NumpyEvaluator(self, batches, scored)

    def decoder(self):
        return NumpyDecoder(self)

    def weights(self):
        return (self.arrays[spec.name] for spec in self.parameters)

    def compute(self, fields, training, scored=(), decoding=None):
        """Return what the last block returns for a micro-batch."""
        self.scope.training, self.scope.scored = training, tuple(scored)
        self.scope.decoding = decoding
        for name, array in self.arrays.items():
            self.tensors[name].array, self.tensors[name].grad = array.astype(REAL), None
        values = {
            name: Tensor(array.astype(REAL) if array.dtype.kind == "f" else array) for name, array in fields.items()
        }
        if not training:
            values[DROPOUT_SEEDS] = None
        hidden = None
        for block in self.model.blocks:
            if block.borrow is not None:
                hidden = getattr(self.blocks[block.borrow.owner], block.borrow.part)(values[block.borrow.field])
            hidden = self.blocks[block.name](hidden, values)
        return hidden


class NumpyTraining(executor.Training):
    def __init__(self, program, settings, optimizer, schedule, batches):
        self.program, self.settings, self.schedule, self.batches = program, settings, schedule, batches
        self.optimizer, name = realised(optimizer)
        self.state = NumpyState(program, self.optimizer.states, name)

    def step(self, data_step):
        program, model, state = self.program, self.program.model, self.state
        read = self.batches.read(data_step, program.inputs, 0, 1)
        losses = np.zeros(len(model.outputs))
        gradients = {spec.name: np.zeros(spec.shape) for spec in program.parameters}
        for part in range(self.settings.micro_batches):
            fields = {name: np.split(array, self.settings.micro_batches)[part] for name, array in read.items()}
            results = program.compute(fields, training=True)
            losses += [float(results[name].array) for name in model.outputs]
            sum((results[name] * weight for name, weight in model.losses.items()), Tensor(np.zeros(()))).backward()
            for name, tensor in program.tensors.items():
                if tensor.grad is not None:
                    gradients[name] += tensor.grad
        norm = float(np.sqrt(sum((gradient**2).sum() for gradient in gradients.values())))
        most = self.settings.max_norm
        factor = min(1.0, most / (norm + 1e-6)) if most > 0 else 1.0
        parts = [
            Part(
                spec,
                program.arrays[spec.name],
                (gradients[spec.name] * factor).astype(np.float32),
                {kind: state.optimizer[kind][spec.name] for kind in self.optimizer.states},
            )
            for spec in program.parameters
        ]
        state.step += 1
        state.norm_sum += norm
        self.optimizer.update(parts, state.step, self.schedule.at(state.step - 1), NumpyArrays())
        return losses, state.norm_sum

    def read(self, handle):
        return handle

    def finish_step(self, number):
        pass


class NumpyState(executor.TrainingState):
    optimizer_name, stage_count = "", 1

    def __init__(self, program, kinds, name):
        self.program, self.optimizer_name, self.step, self.norm_sum = program, name, 0, 0.0
        self.optimizer = {
            kind: {spec.name: np.zeros(spec.shape, np.float32) for spec in program.parameters} for kind in kinds
        }
        self.saved = None

    def stage_of_writer(self, rank):
        return 0

    def tensors(self, to_rank_0=False):
        for kind, arrays in (("", self.program.arrays), *self.optimizer.items()):
            for name, array in arrays.items():
                yield name, kind, array.copy()

    def load_optimizer(self, kinds, step, value_of):
        self.step = step
        for kind in kinds:
            for spec in self.program.parameters:
                self.optimizer[kind][spec.name][...] = value_of(kind, spec)

    def set_norm_sum(self, value):
        self.norm_sum = value

    def backup(self):
        self.saved = self.step, self.norm_sum, list(self.tensors())

    def restore(self):
        self.step, self.norm_sum, tensors = self.saved
        for name, kind, array in tensors:
            (self.optimizer[kind] if kind else self.program.arrays)[name][...] = array


class NumpyDecoder(executor.Decoder):
    """Decode in one stage; it is its own ``Decoding``."""

    def __init__(self, program):
        self.program, self.kept = program, {}

    def step(self, fields, positions, visible):
        self.positions = Tensor(positions)
        self.mask = Tensor(np.where(visible[:, None], 0.0, self.program.scope.ops.MASKED))
        return self.program.compute(fields, training=False, decoding=self)[NEXT_LOGITS].array.astype(np.float32)

    def keep(self, name, x, dim):
        before = self.kept.get(name)
        self.kept[name] = x if before is None else Tensor(np.concatenate([before.array, x.array], dim))
        return self.kept[name]


class NumpyEvaluator(executor.Evaluator):
    def __init__(self, program, batches, scored):
        self.program, self.batches, self.scored = program, batches, scored

    def evaluate(self, receive=None):
        model, sums = self.program.model, np.zeros(len(self.program.model.evaluated))
        for number in range(len(self.batches)):
            results = self.program.compute(
                self.batches.read(number, self.program.inputs, 0, 1), training=False, scored=self.scored
            )
            sums += [float(results[name].array) for name in model.evaluated]
            if receive is not None and self.scored:
                samples = self.batches.samples(number)
                outputs = {name: results[name].array[: len(samples)].astype(np.float32) for name in self.scored}
                receive(samples, outputs)
        if self.batches.absent:
            return {}
        measured = dict(zip(model.evaluated, sums.tolist()))
        return {"loss": sum(weight * measured[name] for name, weight in model.losses.items()), **measured}
