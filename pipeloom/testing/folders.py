"""Check of HuggingFace folders: a checkpoint is exported, read again, and has the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.checkpoint.describe import manifest_of, texts_of
from pipeloom.core.checkpoint.manifest import Position
from pipeloom.core.checkpoint.saver import Saver
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.training.run import Run
from pipeloom.testing.check import ConformanceError, need
from pipeloom.testing.models import drawn_weights
from pipeloom.testing.subject import ONE_DEVICE, Subject


class _State:
    """The parameters of one rank that has the whole model, as a ``Saver`` asks for them."""

    stage_count = 1

    def __init__(self, values: Dict[str, np.ndarray]) -> None:
        self._values = values

    def stage_of_writer(self, rank: int) -> int:
        return 0

    def tensors(self, to_rank_0: bool = False) -> Any:
        for name, value in self._values.items():
            yield name, "", value


def save_checkpoint(subject: Subject, directory: Path, values: Dict[str, np.ndarray]) -> Path:
    """Write a checkpoint of the subject's run with these parameters; return its folder."""
    run = Run(subject.plan, subject.plugins, directory, 0)
    texts = texts_of(subject.plan.dataset)
    saver = Saver(directory, _State(values), 0, lambda text: [text], None, subject.plan.goal, texts=texts)
    saver.save(manifest_of(run, Position(1, 1), 0.5, "AdamW", {"loss": 1.0}, {}))
    saver.finish()
    saved = saver.poll()
    if saved is None or saved.path is None:
        raise ConformanceError(f"a checkpoint of its parameters cannot be written: {saved and saved.error}")
    return saved.path


def comes_back_from_a_folder(subject: Subject, folder: Path) -> None:
    """Export and import are inverse: to a checkpoint, to a HuggingFace folder, and back, bit for bit."""
    model = subject.plan.model
    if model.huggingface is None:
        return
    need(
        "init_from" in subject.config.declared,
        "its ModelSpec has 'huggingface', so it can be exported, and nothing starts from such a folder: declare the "
        "option init_from (docs/models.md), or leave 'huggingface' out",
    )
    values = drawn_weights(model)
    checkpoint = save_checkpoint(subject, folder / "run", values)
    _compare(subject, str(checkpoint), "checkpoint", values)
    _export(checkpoint, folder / "exported")
    _compare(subject, str(folder / "exported"), "exported folder", values)


def _export(checkpoint: Path, output: Path) -> None:
    from pipeloom.plugins.commands.export import export
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained, vocabulary_for
    from pipeloom.plugins.libraries.text.tokenizer_files import has_tokens

    opened = open_pretrained(str(checkpoint), "--checkpoint")
    vocabulary = vocabulary_for(opened, None, None) if has_tokens(opened.path) else None
    export(opened, vocabulary, output, "float32", 5 << 30)


def _compare(subject: Subject, path: str, what: str, values: Dict[str, np.ndarray]) -> None:
    try:
        config, plugins = subject.parse(subject.names, *ONE_DEVICE, "--init_from", path)
        started = make_plan(config, plugins).model
    except UsageError as error:
        raise ConformanceError(f"the {what} that it makes cannot be read by --init_from: {error}") from error
    need(started.weights is not None, "with --init_from its ModelSpec has no 'weights': set them (docs/models.md)")
    specs = {spec.name: spec for spec in started.parameters}
    need(
        specs.keys() == values.keys(),
        f"the model that starts from its {what} has other parameters: "
        f"{', '.join(sorted(specs.keys() ^ values.keys())[:3])}; let config.json say all that decides them",
    )
    for name, value in values.items():
        read = started.weights.value(specs[name]) if started.weights is not None else None
        need(
            read is not None,
            f"the {what} does not give back the parameter '{name}': correct the rules, aliases and prefix of its "
            "WeightAdapter",
        )
        need(
            np.array_equal(read, value),  # type: ignore[arg-type]
            f"the parameter '{name}' comes back from its {what} with other values: correct the axis, order, sizes and "
            "'transposed' of its TensorRule",
        )
