"""What a trained model says of samples: its outputs per sample, in this process alone and without any training state."""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from pipeloom.core.base.devices import check_gpus, hide_gpus, resolve_device
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import RANK_VARIABLES
from pipeloom.core.checkpoint.initialization import initial_values
from pipeloom.core.config import config as configs
from pipeloom.core.config.origins import telling_origins
from pipeloom.core.contract.blocks import ModelSpec
from pipeloom.core.contract.core_fields import CORE_FIELDS
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.core.contract.executor import ProgramSpec
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.data.batches import HeldOutBatches
from pipeloom.core.host.calls import blaming
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.task_choice import find_task
from pipeloom.core.planning.held_out import absent_labels
from pipeloom.plugins.libraries.huggingface.folder import Folder
from pipeloom.plugins.libraries.huggingface.source import CheckpointFolder, open_pretrained


def predict(
    folder: str,
    task: str,
    fields: Mapping[str, np.ndarray],
    batch_size: int = 16,
    plugins: Sequence[str] = (),
    device: str = "auto",
) -> Dict[str, np.ndarray]:
    """The outputs of the model in ``folder`` for samples: name -> float32 ``(samples, *shape)``.

    ``folder``: a checkpoint, a run directory or a HuggingFace folder, which must have the head of ``task``. ``fields``
    are those of the samples by name, ``(samples, *shape)``, int32 or float32; ``input_ids`` has as many tokens as the
    sequence. ``plugins`` are needed besides those that a checkpoint was made with; a HuggingFace folder's model is the
    plugin of the name of its ``model_type``. ``device`` is ``cpu``, ``cuda`` or ``auto``: the first GPU, if there is
    one. Raises ``UsageError``.
    """
    device = resolve_device(device)
    if device == "cuda":
        check_gpus(1)
    manager, config, model = _open(folder, task, fields, plugins)
    samples = Samples(model, fields)
    samples.check()
    config = config.replace(train_global_batch_size=min(batch_size, len(samples)), grad_acc_steps=1)
    return _outputs(manager, config, model, samples, device)


class Samples(Dataset):
    """Arrays as a dataset whose samples are to be given all outputs of ``model``."""

    def __init__(self, model: ModelSpec, arrays: Mapping[str, np.ndarray]) -> None:
        self.task, self.vocab_size, self.scored = model.task, model.sizes["vocab"], tuple(model.scores)
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}
        self.fields = {
            name: Field(name, array.shape[1:], str(array.dtype), 0, self._bound(name))
            for name, array in self._arrays.items()
        }

    def _bound(self, name: str) -> Any:
        return {"input_ids": self.vocab_size, "input_mask": 2, "segment_ids": 2}.get(name)

    def __len__(self) -> int:
        return min((len(array) for array in self._arrays.values()), default=0)

    def read(self, indices: Sequence[int], names: Sequence[str]) -> Dict[str, np.ndarray]:
        return {name: self._arrays[name][np.asarray(indices, np.int64)] for name in names}

    def describe(self) -> str:
        return f"{len(self)} samples"

    def check(self) -> None:
        """Raise ``UsageError`` for arrays that no graph must be fed."""
        for name, array in self._arrays.items():
            field = self.fields[name]
            if array.dtype not in (np.int32, np.float32):
                raise UsageError(f"field '{name}' is of {array.dtype}: give int32 or float32")
            if len(array) != len(self) or len(array) < 1:
                raise UsageError(
                    f"field '{name}' has {len(array)} samples, others have {len(self)}: give as many of each, and one at least"
                )
            if field.high is not None and not ((array >= 0) & (array < field.high)).all():
                raise UsageError(f"field '{name}' has values that are not in 0 .. {field.high - 1}")


def _open(
    path: str, task_name: str, fields: Mapping[str, np.ndarray], plugins: Sequence[str]
) -> Tuple[PluginManager, configs.Config, ModelSpec]:
    folder = open_pretrained(path, "--checkpoint")
    made_with: Dict[str, Any] = {}
    names: List[str] = [folder.setting("model_type", str)]
    if isinstance(folder, CheckpointFolder):
        names, made_with = list(folder.manifest.plugins), folder.manifest.options()
    manager = PluginManager()
    try:
        manager.load(dict.fromkeys([*names, *plugins]))
    except UsageError as error:
        raise folder.error(f"its model: {error}") from None
    options = manager.options()
    given = {"seq_length": np.shape(fields["input_ids"])[1], "vocab_size": folder.setting("vocab_size", int)}
    layout = {"tensor_parallel": 1, "precision": "fp32"}  # whatever the run that made it had
    base = {name: value for name, value in made_with.items() if name in options}
    sources = (("the model", {**given, **layout}), ("--checkpoint", {"init_from": str(folder.path)}))
    config = configs.resolve(options, names, False, *sources, base=base)
    with telling_origins(config), blaming(manager):
        model = manager.hook.pipeloom_build_model(config=config, task=find_task(manager, config, task_name))
    _check(folder, model, fields)
    return manager, config, model


def _check(folder: Folder, model: ModelSpec, fields: Mapping[str, np.ndarray]) -> None:
    if not model.scores:
        raise UsageError(f"the task '{model.task}' has no outputs per sample to predict")
    missing = model.weights.missing  # type: ignore[attr-defined]
    if missing:
        raise folder.error(
            f"it is not trained for '{model.task}': it has no {', '.join(missing[:3])}"
            + (" ..." if len(missing) > 3 else "")
        )
    unused = [name for name in model.weights.unexpected if ".pooler." not in f".{name}"]  # type: ignore[attr-defined]
    if unused:
        names = ", ".join(unused[:3]) + (" ..." if len(unused) > 3 else "")
        print(
            f"pipeloom: warning: {folder.path} has {len(unused)} tensors that no output depends on: {names}",
            file=sys.stderr,
        )
    # Borrowed parts read fields too.
    labels = {field.name for field in model.labels}
    for name in (
        name for block in model.blocks for name in (*block.inputs, *((block.borrow.field,) if block.borrow else ()))
    ):
        if name not in fields and name not in labels and name not in CORE_FIELDS:
            raise UsageError(f"predicting '{model.task}' needs the field '{name}'")


def _outputs(
    manager: PluginManager, config: configs.Config, model: ModelSpec, samples: Samples, device: str
) -> Dict[str, np.ndarray]:
    # Here and not above: what is wrong with the model or the samples is said without waiting for the engine.
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)  # left over from a job, they would make the engine wait for its other ranks
    if device == "cpu":
        hide_gpus()
    cluster, split = Cluster(1, 1, device), (len(model.blocks),)
    fields = {**{field.name: field for field in model.labels}, **samples.fields}
    values = initial_values(model, config.seed)
    executor = manager.hook.pipeloom_executor(config=config)
    executor.check(cluster, config)
    executor.start()
    program = executor.build(
        ProgramSpec(model, split, Placement.of(cluster, [[0]]), Mesh(1, 1), fields, rank=0, value_of=values)
    )
    found = {name: np.zeros((len(samples), *shape), np.float32) for name, shape in model.scores.items()}

    def receive(indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        for name, values in outputs.items():
            found[name][list(indices)] = values

    absent = list(absent_labels(model, samples).values())
    batches = HeldOutBatches(samples, config.train_global_batch_size, model.normalize, absent)
    program.evaluator(batches, samples.scored).evaluate(receive)
    return found
