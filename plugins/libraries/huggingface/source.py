"""Starting a model from the parameters of a checkpoint (``--init_from``), which may be of another task or sequence
length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint import tensors
from pipeloom.core.checkpoint.manifest import MANIFEST, BadCheckpoint, read_manifest, verify_files
from pipeloom.core.checkpoint.naming import checkpoint_path
from pipeloom.core.checkpoint.store import FOLDER, Store
from pipeloom.core.contract.weight_adapter import TensorPart, adapter_from
from pipeloom.plugins.libraries.huggingface.folder import CONFIG, Folder
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.text.tokenizer_files import has_tokens


class CheckpointFolder(Folder):
    """Open a checkpoint as a HuggingFace folder: its settings and tensors are what such a folder of its model would
    have, without the optimizer's state. Verified when it is opened. Raises ``UsageError``."""

    def _read_config(self) -> Dict[str, Any]:
        try:
            self.manifest = read_manifest(self.path)
            verify_files(self.path, self.manifest)
        except BadCheckpoint as bad:
            raise self.error(str(bad)) from None
        model = self.manifest.model
        repeated = model.get("repeated", {})
        self.repeated = repeated if isinstance(repeated, dict) else {}
        self.pipeline_tag = model.get("pipeline_tag")
        return dict(model.get("huggingface") or {})

    def _read_headers(self) -> Dict[str, Tuple[Tuple[int, ...], str]]:
        self._file_of = {name: file for file, entry in self.manifest.files.items() for name in entry.tensors}
        shapes = {name: tuple(shape) for name, shape in self.manifest.parameters.items()}
        try:
            self._recipes = adapter_from(self.manifest.model.get("adapter", ())).to_huggingface(shapes)
        except (KeyError, ValueError, IndexError) as error:
            raise self.error(f"{MANIFEST}: 'adapter' does not fit its parameters ({error})") from None
        return {name: (recipe.shape, "F32") for name, recipe in self._recipes.items()}

    def read(self, name: str, index: Optional[Tuple[slice, ...]] = None) -> np.ndarray:
        value = self._recipes[name].make(self._read_part)
        return value if index is None else value[index]

    def _read_part(self, part: TensorPart) -> np.ndarray:
        try:
            return tensors.read_float32(self.path / self._file_of[part.name], part.name, part.index)
        except (KeyError, OSError, ValueError) as error:
            raise self.error(f"'{part.name}': {error}") from None


def vocabulary_of(path: str) -> Optional[Vocabulary]:
    """The vocabulary of what ``--init_from`` names, of a run directory that of its newest checkpoint; nothing else of
    it is read.
    """
    folder = _without_a_look(path)
    return Vocabulary(folder) if has_tokens(folder) else None


def vocabulary_of_run(config: Any, source: Path) -> Vocabulary:
    """The vocabulary that turns the text ``source`` into tokens: that of ``--vocab``, else of ``--init_from``.

    ``config`` has the options ``vocab`` and ``lowercase``. Raises ``UsageError`` where there is none, or the folder
    says otherwise.
    """
    if config.vocab is not None:
        return Vocabulary(Path(config.vocab).expanduser(), config.lowercase)
    start = getattr(config, "init_from", None)  # an option of models; their folders have the vocabulary with them
    found = vocabulary_of(start) if start is not None else None
    if found is None:
        raise UsageError(f"{source} is text: give the vocabulary that turns it into tokens with --vocab vocab.txt")
    says = found.read().lowercase
    if config.lowercase is not None and says not in (None, config.lowercase):
        raise UsageError(
            f"--init_from {start} was trained with lowercase {str(says).lower()}: leave --lowercase "
            "out, or give a vocabulary of your own with --vocab"
        )
    return Vocabulary(found.path, config.lowercase)


def positions_of(path: str) -> Optional[int]:
    """How many positions the model has that ``--init_from`` names; ``None`` where nobody says. It is not opened."""
    folder = _without_a_look(path)
    try:
        if (folder / MANIFEST).is_file():
            said = read_manifest(folder).model["huggingface"]
        else:
            said = json.loads((folder / CONFIG).read_bytes())
        found = positions_in(said)
    except (BadCheckpoint, OSError, ValueError, LookupError, TypeError, RecursionError):
        return None  # whoever opens the folder says what is wrong with it
    return found if type(found) is int and found > 0 else None


def positions_in(config: Mapping[str, Any]) -> Any:
    """Return what a ``config.json`` says of the number of positions; ``None`` for nothing."""
    return next((config[name] for name in ("max_position_embeddings", "n_positions") if name in config), None)


def _without_a_look(path: str) -> Path:
    """The folder of a model, of a run directory its newest checkpoint, whole or not."""
    folder = checkpoint_path(path)
    checkpoints = Store(folder / FOLDER if (folder / FOLDER).is_dir() else folder).checkpoints()
    return checkpoints[-1] if checkpoints and not (folder / MANIFEST).is_file() else folder


def vocabulary_for(folder: Folder, vocab: Optional[str], lowercase: Optional[bool]) -> Vocabulary:
    """The vocabulary that the model of ``folder`` was trained with: the file or folder ``vocab`` that the user gave,
    else what the folder has.

    ``lowercase`` is what the user says of it. Raises ``UsageError`` where there is none, or the folder says otherwise.
    """
    if vocab is not None:
        return Vocabulary(Path(vocab).expanduser(), lowercase)
    if not has_tokens(folder.path):
        raise folder.error("it says nothing of its vocabulary: give it with --vocab vocab.txt (and --lowercase)")
    says = Vocabulary(folder.path).read().lowercase
    if lowercase is not None and says not in (None, lowercase):
        raise folder.error(f"it was trained with lowercase {str(says).lower()}: leave --lowercase out")
    return Vocabulary(folder.path, lowercase)


def open_pretrained(path: str, option: str = "--init_from", needs_settings: bool = True) -> Folder:
    """Open what ``option`` names: a HuggingFace folder, a checkpoint, or a run directory (its newest whole checkpoint).

    ``RUN@best`` and other names of ``core/checkpoint/naming.py`` are known too. Raises ``UsageError``; with
    ``needs_settings`` also for a checkpoint whose model has no ``config.json``.
    """
    try:
        folder = checkpoint_path(path)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from None
    checkpoint = folder if (folder / MANIFEST).is_file() else _newest_in(folder)
    if checkpoint is None:
        return Folder(str(folder), option)
    opened = CheckpointFolder(str(checkpoint), option)
    if needs_settings and not opened.config:
        raise opened.error(f"its model '{opened.manifest.model['name']}' says nothing of its sizes")
    return opened


def _newest_in(folder: Path) -> Optional[Path]:
    """Return the newest whole checkpoint of a run directory, or of its folder of checkpoints."""
    if not (folder / FOLDER).is_dir() and folder.name != FOLDER:
        return None
    return Store(folder / FOLDER if (folder / FOLDER).is_dir() else folder).newest_whole()[0]
