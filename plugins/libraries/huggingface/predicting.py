"""What a trained model says of samples: its outputs per sample, in this process alone and without any training
state.
"""

from __future__ import annotations

import os
import sys
from types import MappingProxyType
from typing import Any, Callable, Container, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.devices import check_gpus, hide_gpus, resolve_device
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import RANK_VARIABLES
from pipeloom.core.checkpoint.initialization import initial_values
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.config import config as configs
from pipeloom.core.config.origins import origins_in_errors
from pipeloom.core.contract.blocks import ModelSpec, ParameterSpec
from pipeloom.core.contract.core_fields import CORE_FIELDS
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.core.contract.executor import ProgramSpec
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.sample_fields import SampleField
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.data.added_fields import find_sample_fields
from pipeloom.core.data.batches import HeldOutBatches
from pipeloom.core.host.calls import blaming
from pipeloom.core.host.initial_distributions import find_distributions
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.task_choice import find_task
from pipeloom.core.planning.held_out import absent_labels
from pipeloom.plugins.libraries.huggingface.folder import Folder
from pipeloom.plugins.libraries.huggingface.source import CheckpointFolder, open_pretrained

#: Fields of transformers that are 0 or 1.
_BINARY = {"input_mask": 2, "segment_ids": 2}


def predict(
    path: str,
    task: str,
    fields: Mapping[str, np.ndarray],
    batch_size: int = 16,
    plugins: Sequence[str] = (),
    device: str = "auto",
    seq_length: Optional[int] = None,
    high: Mapping[str, int] = MappingProxyType({}),
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Dict[str, np.ndarray]:
    """Return the outputs of a trained model for samples: name -> float32 ``(samples, *shape)``.

    ``path``: a checkpoint, a run directory or a HuggingFace folder, which must have the head of ``task``. ``fields``
    are those of the samples by name, ``(samples, *shape)``, int32 or float32; values of those in ``high`` must be from
    0 to below that. ``seq_length``: tokens of a sample, by default the longest of the fields. ``settings``: options
    that the samples decide, of those that the plugins declare. ``plugins`` are needed besides those of ``plugins_of``.
    ``device`` is ``cpu``, ``cuda`` or ``auto``: the first GPU, if there is one. Raises ``UsageError``.
    """
    device = resolve_device(device)
    if device == "cuda":
        check_gpus(1)
    samples = Samples(task, fields, high)
    samples.check()
    longest = max((array.shape[1] for array in map(np.asarray, fields.values()) if array.ndim > 1), default=1)
    length = seq_length or longest
    folder = open_pretrained(path, "--checkpoint", needs_settings=False)
    manager, config, model, added = _model(folder, task, fields, plugins, {**settings, "seq_length": length})
    samples.scored = tuple(model.scores)
    if "vocab" in model.sizes:  # what is looked up must be there: an engine may end the process at an id that is not
        samples.bound({**_BINARY, "input_ids": model.sizes["vocab"], **high})
        samples.check()
    config = config.replace(train_global_batch_size=min(batch_size, len(samples)), grad_acc_steps=1)
    values: Callable[[ParameterSpec], np.ndarray]
    if isinstance(folder, CheckpointFolder) and model.weights is None:  # its plugin knows nothing of folders
        values = Checkpoint(folder.path).parameter
    else:
        values = initial_values(model, config.seed, find_distributions(manager, config))
    return _outputs(manager, config, model, samples, device, values, added)


def plugins_of(folder: Folder) -> List[str]:
    """Return the plugins that a model needs: those of its run, or the one of the name of its ``model_type``."""
    if isinstance(folder, CheckpointFolder):
        return list(folder.manifest.plugins)
    return [folder.setting("model_type", str)]


def trained_task(folder: Folder) -> Optional[str]:
    """Return the task that a checkpoint was trained for; ``None`` for a HuggingFace folder."""
    return str(folder.manifest.model["task"]) if isinstance(folder, CheckpointFolder) else None


class Samples(Dataset):
    """Arrays as a dataset; values of the fields in ``high`` are bounded."""

    def __init__(self, task: str, arrays: Mapping[str, np.ndarray], high: Mapping[str, int]) -> None:
        self.task, self.vocab_size = task, 1
        self._arrays = {name: np.asarray(array) for name, array in arrays.items()}
        self.bound(high)

    def bound(self, high: Mapping[str, int]) -> None:
        """Declare the fields; values of those in ``high`` must be from 0 to below that."""
        self.fields = {
            name: Field(name, array.shape[1:], str(array.dtype), 0 if name in high else None, high.get(name))
            for name, array in self._arrays.items()
        }

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
                    f"field '{name}' has {len(array)} samples, others have {len(self)}: give as many of each, and one "
                    f"at least"
                )
            if field.high is not None and not ((array >= 0) & (array < field.high)).all():
                raise UsageError(f"field '{name}' has values that are not in 0 .. {field.high - 1}")


def _model(
    folder: Folder,
    task_name: str,
    fields: Mapping[str, np.ndarray],
    plugins: Sequence[str],
    settings: Mapping[str, Any],
) -> Tuple[PluginManager, configs.Config, ModelSpec, Dict[str, SampleField]]:
    """Build the model of ``folder`` with the head of a task, by the options that it was made with.

    Returns the fields that its plugins add to ``fields`` besides.
    """
    made_with: Dict[str, Any] = folder.manifest.options() if isinstance(folder, CheckpointFolder) else {}
    names = list(dict.fromkeys([*plugins_of(folder), *plugins]))
    manager = PluginManager()
    try:
        manager.load(names)
    except UsageError as error:
        raise folder.error(f"its model: {error}") from None
    options = manager.options()
    given: Dict[str, Any] = {name: value for name, value in settings.items() if name in options}
    given.update(tensor_parallel=1, precision="fp32")
    if "vocab_size" in folder.config:
        given["vocab_size"] = folder.setting("vocab_size", int)
    base = {name: value for name, value in made_with.items() if name in options}
    start = {"init_from": str(folder.path)} if "init_from" in options else {}
    config = configs.resolve(options, names, False, ("the model", given), ("--checkpoint", start), base=base)
    with origins_in_errors(config), blaming(manager):
        added = find_sample_fields(manager, config, fields)
        model = manager.hook.pipeloom_build_model(config=config, task=find_task(manager, config, task_name))
    _check(folder, model, {*fields, *added})
    return manager, config, model, added


def _check(folder: Folder, model: ModelSpec, fields: Container[str]) -> None:
    if not model.scores:
        raise UsageError(f"the task '{model.task}' has no outputs per sample to predict")
    missing, unused = getattr(model.weights, "missing", []), getattr(model.weights, "unexpected", [])
    if missing:
        listed = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise folder.error(f"it is not trained for '{model.task}': it has no {listed}")
    unused = [name for name in unused if ".pooler." not in f".{name}"]
    if unused:
        listed = ", ".join(unused[:3]) + (" ..." if len(unused) > 3 else "")
        line = f"{folder.path} has {len(unused)} tensors that no output depends on: {listed}"
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    # Borrowed parts read fields too.
    labels = {field.name for field in model.labels}
    for name in (
        name for block in model.blocks for name in (*block.inputs, *((block.borrow.field,) if block.borrow else ()))
    ):
        if name not in fields and name not in labels and name not in CORE_FIELDS:
            raise UsageError(f"predicting '{model.task}' needs the field '{name}'")


def _outputs(
    manager: PluginManager,
    config: configs.Config,
    model: ModelSpec,
    samples: Samples,
    device: str,
    value_of: Callable[[ParameterSpec], np.ndarray],
    added: Mapping[str, SampleField],
) -> Dict[str, np.ndarray]:
    # Here and not above: what is wrong with the model or the samples is said without waiting for the engine.
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)  # left over from a job, they would make the engine wait for its other ranks
    if device == "cpu":
        hide_gpus()
    cluster, split = Cluster(1, 1, device), (len(model.blocks),)
    computed = {name: one.field for name, one in added.items()}
    fields = {**{field.name: field for field in model.labels}, **samples.fields, **computed}
    executor = manager.hook.pipeloom_executor(config=config)
    executor.check(cluster, config)
    executor.start()
    program = executor.build(
        ProgramSpec(model, split, Placement.of(cluster, [[0]]), Mesh(1, 1), fields, rank=0, value_of=value_of)
    )
    found = {name: np.zeros((len(samples), *shape), np.float32) for name, shape in model.scores.items()}

    def receive(indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        for name, values in outputs.items():
            found[name][list(indices)] = values

    absent = list(absent_labels(model, samples).values())
    batches = HeldOutBatches(samples, config.train_global_batch_size, model.normalize, absent, added)
    program.evaluator(batches, samples.scored).evaluate(receive)
    return found
