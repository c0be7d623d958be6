"""What an engine is to the rest of pipeloom: it builds a program of a planned model, steps it, and keeps its state.

An executor plugin answers ``pipeloom_executor`` with an ``Executor``. The trainer, ``predict`` and ``parity`` know no
more of an engine than this. Every rank makes the same calls in the same order; numbers come and go as numpy arrays,
parameters by the names that the model gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.blocks import ModelSpec, ParameterSpec
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.loss_scale import LossScale, LossScaleRule
from pipeloom.core.contract.optimizer import OptimizerSpec, StepOptimizer
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.rank_load import PredictedMemory, RankLoad, least_memory
from pipeloom.core.contract.recording import Recorder
from pipeloom.core.contract.topology import Cluster, Mesh

#: Receives the outputs per sample of an evaluation: the indices of some samples, and their outputs by name.
ReceiveOutputs = Callable[[Sequence[int], Dict[str, np.ndarray]], None]


@dataclass(frozen=True)
class ProgramSpec:
    """State what to build: ``model`` in stages of ``split`` blocks, each on the ranks that ``placement`` gives it.

    ``fields`` are those of the samples by name, with what core adds to them; ``rank`` is this process;
    ``value_of(spec)`` gives the first float32 value of a parameter, ``spec.shape``. ``shard`` is what is spread over
    the data-parallel ranks: ``"none"``, ``"optimizer"`` or ``"parameters"``. ``half_precision``: products may be
    computed in half precision, with float32 weights and losses.
    """

    model: ModelSpec
    split: Tuple[int, ...]
    placement: Placement
    mesh: Mesh
    fields: Mapping[str, Field]
    rank: int
    value_of: Callable[[ParameterSpec], np.ndarray]
    shard: str = "none"
    half_precision: bool = False


@dataclass(frozen=True)
class Peak:
    """Say what a rank computes at best: ``flops`` floating-point operations a second, and from where that is known."""

    flops: float
    source: str


@dataclass(frozen=True)
class StepSettings:
    """State how a step is made.

    ``micro_batches``: how many a step has; ``recomputed``: for each stage the positions of the blocks whose activations
    are computed again for the backward pass; ``max_norm``: what the 2-norm of the whole gradient is clipped to, 0 = not
    at all. The loss is multiplied by ``loss_scale`` for the backward pass, and its gradients divided by it again;
    with ``dynamic_scale`` by a scale that follows that rule, and a step whose gradient is not finite changes nothing
    but the scale.
    """

    micro_batches: int = 1
    recomputed: Sequence[Sequence[int]] = ()
    max_norm: float = 0.0
    loss_scale: float = 1.0
    dynamic_scale: Optional[LossScaleRule] = None


class Batches:
    """What an executor reads: ``pipeloom.core.data.batches`` has those of training and of a held-out set."""

    #: Fields that the samples do not have; they are read as zeros, and losses and metrics do not count then.
    absent: Tuple[str, ...] = ()

    def read(self, step: int, names: Sequence[str], position: int, width: int) -> Dict[str, np.ndarray]:
        """Return the fields ``names`` of the share of data-parallel rank ``position`` of ``width`` in batch
        ``step``.
        """
        raise NotImplementedError("abstract")

    def __len__(self) -> int:
        """Return how many batches a held-out set has."""
        raise NotImplementedError("abstract")

    def samples(self, step: int) -> range:
        """Return the indices of the samples of a held-out batch, without what fills it up; they come first in it."""
        raise NotImplementedError("abstract")


class Collectives:
    """Short messages between all ranks: rare, and a point where they wait for each other."""

    def all_gather_text(self, text: str) -> List[str]:
        """Return what each rank gave, by rank, on every rank; of each the first 512 bytes."""
        raise NotImplementedError("abstract")

    def broadcast_text(self, text: str) -> str:
        """Return what rank 0 gave, of any length, on every rank."""
        raise NotImplementedError("abstract")

    def exchange_seconds(self, kind: str, ranks: Sequence[int], amount: int) -> Optional[float]:
        """Return the measured seconds of an exchange of ``amount`` bytes; ``None`` where this engine has no such thing.

        ``kind``: ``"send"``, from the first of two ranks to the second, or ``"all_reduce"``, among ``ranks``. Every
        rank of the job calls it; the seconds are those of this one.
        """
        return None

    def gather_bytes(self, content: bytes) -> Optional[List[bytes]]:
        """Return what each rank gave, of any length, by rank, on the main rank; ``None`` on the others."""
        raise NotImplementedError("abstract")


class TrainingState:
    """What a run must keep to go on: parameters, the optimizer's state, the count of steps."""

    @property
    def optimizer_name(self) -> str:
        """Name the optimizer, as checkpoints have it (``"AdamW"``): another one cannot go on from its state."""
        raise NotImplementedError("abstract")

    @property
    def stage_count(self) -> int:
        raise NotImplementedError("abstract")

    def stage_of_writer(self, rank: int) -> Optional[int]:
        """Return the stage whose arrays ``rank`` gets from ``tensors``; ``None`` for most ranks."""
        raise NotImplementedError("abstract")

    def tensors(self, to_rank_0: bool = False) -> Iterator[Tuple[str, str, Optional[np.ndarray]]]:
        """Yield ``(parameter, kind, array)`` of all there is to save; the parameters themselves are of kind ``""``.

        The array is a copy, float32, whole, and ``None`` but on the writer of the stage that owns the parameter, or
        (``to_rank_0``) on rank 0. One at a time, so that no rank holds more than one tensor beside its own.
        """
        raise NotImplementedError("abstract")

    def load_optimizer(
        self, kinds: Sequence[str], step: int, value_of: Callable[[str, ParameterSpec], np.ndarray]
    ) -> None:
        """Go on from the state ``kinds`` of an optimizer after ``step`` steps; called before the first step."""
        raise NotImplementedError("abstract")

    def set_norm_sum(self, value: float) -> None:
        """Set the sum of gradient norms that ``Training.read`` gives and each step adds to."""
        raise NotImplementedError("abstract")

    def loss_scale(self) -> Optional[LossScale]:
        """Return the dynamic loss scale as it is now, on every rank; ``None`` where there is none. Waits for steps."""
        return None

    def set_loss_scale(self, value: LossScale) -> None:
        """Go on from a dynamic loss scale; called before the first step, after ``load_optimizer``."""
        raise NotImplementedError("abstract")

    def backup(self) -> None:
        """Copy the whole state, to take back the step that follows."""
        raise NotImplementedError("abstract")

    def restore(self) -> None:
        """Set everything to what it was at the last backup, bit for bit."""
        raise NotImplementedError("abstract")


class Training:
    """The steps of a run."""

    state: TrainingState

    def step(self, data_step: int) -> Any:
        """Begin a step on batch ``data_step`` and return a handle for ``read``; need not wait for its end."""
        raise NotImplementedError("abstract")

    def read(self, handle: Any) -> Tuple[np.ndarray, float]:
        """Wait for a step; return its losses and the sum of the gradient norms, on every rank.

        The losses are float64 ``(len(model.outputs),)``, over the whole global batch; the norms are those before
        clipping, of all steps since ``set_norm_sum``.
        """
        raise NotImplementedError("abstract")

    def finish_step(self, number: int) -> None:
        """Do what is left of step ``number`` (from 1) once it stands; not called for one that is taken back."""
        raise NotImplementedError("abstract")

    def recorder(self) -> Recorder:
        """Return what records when operations run; asked for before the first step.

        Raises ``UsageError`` in one line where this engine, or this build of it, cannot.
        """
        raise UsageError("this executor does not record when its operations run: leave out --profile")


class Evaluator:
    """A held-out set, once over."""

    def evaluate(self, receive: Optional[ReceiveOutputs] = None) -> Dict[str, float]:
        """Return ``{"loss": ..., **losses, **metrics}`` by the parameters as they are now, the same on every rank.

        Nothing where the labels for them are absent. On the main rank ``receive`` gets the outputs per sample, each
        sample once.
        """
        raise NotImplementedError("abstract")


class Decoder:
    """A batch of sequences that grow, with what the model keeps of the tokens that it has read."""

    def step(self, fields: Mapping[str, np.ndarray], positions: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Read L more tokens of each of B sequences, K with those before; return the logits of what follows the last.

        ``fields``: those that the model's ``decoded`` names, int32 ``(B, L)``. ``positions``: int32 ``(B, L)``, of the
        new tokens in their sequences. ``visible``: bool ``(B, L, K)``, what each of them may attend to; padding is what
        nothing attends to. The logits are float32 ``(B, V)`` on every rank, with columns behind the vocabulary where
        tensor parallelism fills it up.
        """
        raise NotImplementedError("abstract")


class Program:
    """A model on its ranks."""

    @property
    def parameters(self) -> Sequence[ParameterSpec]:
        """Return each parameter once, in the order of ``weights``."""
        raise NotImplementedError("abstract")

    def train(
        self,
        settings: StepSettings,
        optimizer: Union[OptimizerSpec, StepOptimizer],
        schedule: Any,
        batches: Batches,
    ) -> Training:
        """Prepare training; ``schedule.at(step)`` is the learning rate of a step from 0. Called once at most."""
        raise NotImplementedError("abstract")

    def evaluator(self, batches: Batches, scored: Sequence[str] = ()) -> Evaluator:
        """Prepare an evaluation; ``scored`` names the outputs per sample that are handed out."""
        raise NotImplementedError("abstract")

    def decoder(self) -> Decoder:
        """Begin a batch of sequences, with a model that says what is ``decoded``."""
        raise NotImplementedError("abstract")

    def weights(self) -> Iterator[Optional[np.ndarray]]:
        """Yield the value of each of ``parameters``, ``None`` but on the main rank; all ranks go through it."""
        raise NotImplementedError("abstract")


class Executor:
    """An engine. Making one is cheap; ``start`` imports it."""

    #: As messages call it.
    name: str = ""
    #: The kinds of ``OptimizerSpec`` that it realises.
    optimizers: Tuple[str, ...] = ()
    #: Programs for ``doctor``, each a process of its own: one that imports the engine and prints its version, and one
    #: for two ranks that add up a number each. Empty where there is nothing to look at.
    import_probe: str = ""
    exchange_probe: str = ""
    #: Another, started as a rank is: it computes products, holds them against exact ones, and prints what serves them.
    product_probe: str = ""
    #: Distributions whose versions must be the same on all nodes.
    packages: Tuple[str, ...] = ()

    def peak(self, cluster: Cluster, config: Any) -> Optional[Peak]:
        """Return what a rank computes at best, ``None`` where that is not known; called on the main rank, started."""
        return None

    def product_flops(self, half_precision: bool, seconds: float) -> Optional[float]:
        """Return floating-point operations a second of products in this process over ``seconds``, measured now.

        Called when started; ``None`` where this engine has no such thing.
        """
        return None

    def check(self, cluster: Cluster, config: Any) -> None:
        """Raise ``UsageError`` for what this engine cannot do on such devices, before any rank starts."""

    def check_optimizer(self, optimizer: Union[OptimizerSpec, StepOptimizer]) -> None:
        """Raise ``UsageError`` for an optimizer that this engine does not have."""
        if isinstance(optimizer, OptimizerSpec) and optimizer.kind not in self.optimizers:
            raise UsageError(
                f"the executor '{self.name}' has no optimizer '{optimizer.kind}'"
                f"{did_you_mean(optimizer.kind, self.optimizers)}; it has: {', '.join(self.optimizers) or 'none'}"
            )

    def memory(self, load: RankLoad) -> PredictedMemory:
        """Return what a process of this engine takes to hold ``load``; by default the least that any engine needs."""
        return PredictedMemory(least_memory(load))

    def environment(self, inherited: Mapping[str, str], cluster: Optional[Cluster] = None) -> Dict[str, str]:
        """Return the environment of a rank, from the one that it would inherit; what users set there is theirs.

        ``cluster``: that of its job; ``None`` for a process that imports the engine and trains nothing. Raises
        ``UsageError`` for what an option asks for and this machine has not.
        """
        return dict(inherited)

    def describe(self) -> Sequence[str]:
        """Return lines for the log on how this process computes, after ``start``: ``"blas       MKL, 2 threads"``."""
        return ()

    def start(self) -> None:
        """Import the engine in this process; raise ``RunError`` or ``UsageError`` in one line where it cannot."""

    def build(self, spec: ProgramSpec) -> Program:
        """Make the parameters and blocks of all stages."""
        raise NotImplementedError("abstract")

    def collectives(self, cluster: Cluster, rank: int) -> Collectives:
        """Return the channel between all ranks of ``cluster``."""
        raise NotImplementedError("abstract")
