"""A trained model with its plugins and options, as commands compute with it: no training state, no data."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint.initialization import initial_values
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.config import config as configs
from pipeloom.core.config.origins import origins_in_errors
from pipeloom.core.contract.blocks import ModelSpec, ParameterSpec
from pipeloom.core.contract.sample_fields import SampleField
from pipeloom.core.data.added_fields import find_sample_fields
from pipeloom.core.host.calls import blaming
from pipeloom.core.host.initial_distributions import find_distributions
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.task_choice import find_task
from pipeloom.plugins.libraries.huggingface.folder import Folder
from pipeloom.plugins.libraries.huggingface.source import CheckpointFolder


def plugins_of(folder: Folder) -> List[str]:
    """Return the plugins that a model needs: those of its run, or the one of the name of its ``model_type``."""
    if isinstance(folder, CheckpointFolder):
        return list(folder.manifest.plugins)
    return [folder.setting("model_type", str)]


def trained_task(folder: Folder) -> Optional[str]:
    """Return the task that a checkpoint was trained for; ``None`` for a HuggingFace folder."""
    return str(folder.manifest.model["task"]) if isinstance(folder, CheckpointFolder) else None


def load_plugins(folder: Folder, plugins: Iterable[str]) -> PluginManager:
    """Load the plugins that the model of ``folder`` needs, and ``plugins``. Raises ``UsageError``."""
    manager = PluginManager()
    try:
        manager.load(list(dict.fromkeys([*plugins_of(folder), *plugins])))
    except UsageError as error:
        raise folder.error(f"its model: {error}") from None
    return manager


@dataclass(frozen=True)
class OpenedModel:
    """Hold a model that stands in a folder; ``added`` are the fields that its plugins compute for samples."""

    folder: Folder
    plugins: PluginManager
    config: configs.Config
    model: ModelSpec
    added: Mapping[str, SampleField]

    @classmethod
    def open(
        cls,
        folder: Folder,
        manager: PluginManager,
        task: str,
        fields: Iterable[str],
        *sources: Tuple[str, Mapping[str, Any]],
        seq_length: int,
    ) -> OpenedModel:
        """Build the model of ``folder`` with the head of ``task``, by the options that it was made with, over which go
        those of ``sources``, pairs of where they come from and the values.

        ``fields`` name those of the samples. Raises ``UsageError``.
        """
        made_with: Dict[str, Any] = folder.manifest.options() if isinstance(folder, CheckpointFolder) else {}
        options = manager.options()
        given: Dict[str, Any] = {"seq_length": seq_length, "tensor_parallel": 1, "precision": "fp32"}
        if "vocab_size" in folder.config:
            given["vocab_size"] = folder.setting("vocab_size", int)
        base = {name: value for name, value in made_with.items() if name in options}
        start = {"init_from": str(folder.path)} if "init_from" in options else {}
        config = configs.resolve(
            options, manager.names, False, ("the model", given), ("--checkpoint", start), *sources, base=base
        )
        with origins_in_errors(config), blaming(manager):
            added = find_sample_fields(manager, config, fields)
            model = manager.hook.pipeloom_build_model(config=config, task=find_task(manager, config, task))
        return cls(folder, manager, config, model, added)

    def values(self) -> Callable[[ParameterSpec], np.ndarray]:
        """Return what gives the value of each parameter."""
        if isinstance(self.folder, CheckpointFolder) and self.model.weights is None:
            return Checkpoint(self.folder.path).parameter  # its plugin knows nothing of folders
        return initial_values(self.model, self.config.seed, find_distributions(self.plugins, self.config))

    def check_weights(self) -> None:
        """Raise ``UsageError`` for a folder without weights that the model has; print a warning for those it has not,
        but for a pooler's."""
        weights, folder = self.model.weights, self.folder
        missing, unused = getattr(weights, "missing", []), getattr(weights, "unexpected", [])
        if missing:
            listed = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
            raise folder.error(f"it is not trained for '{self.model.task}': it has no {listed}")
        unused = [name for name in unused if ".pooler." not in f".{name}"]
        if unused:
            listed = ", ".join(unused[:3]) + (" ..." if len(unused) > 3 else "")
            line = f"{folder.path} has {len(unused)} tensors that no output depends on: {listed}"
            print(f"pipeloom: warning: {line}", file=sys.stderr)
