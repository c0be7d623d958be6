"""The README.md of an exported model: what it is, what it was trained on and how, and how well it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from pipeloom.core.host.plugin_manager import declared_options
from pipeloom.plugins.libraries.huggingface.source import CheckpointFolder

_SPEEDS = (
    "lr",
    "grad_norm",
    "samples_per_second",
    "tokens_per_second",
    "eta_seconds",
    "mfu",
    "bubble",
    "bytes_sent",
    "goodput",
)
#: What model hubs call the task of a folder that does not say it, by the ending of its class in transformers.
_TAGS = {
    "ForPreTraining": "fill-mask",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "text-classification",
}


def model_card(folder: Any, name: str) -> str:
    """The card of the model in ``folder`` (see ``open_pretrained``), in Markdown with the header that model hubs
    read.
    """
    architecture = (folder.config.get("architectures") or ["model"])[0]
    known = next((tag for ending, tag in _TAGS.items() if architecture.endswith(ending)), None)
    tag = folder.pipeline_tag or known
    header = [
        "---",
        "library_name: transformers",
        *([f"pipeline_tag: {tag}"] if tag else []),
        "tags:",
        "- pipeloom",
        f"- {folder.config.get('model_type', 'model')}",
        "---",
    ]
    size = sum(_product(shape) for shape, _ in folder.tensors.values())
    lines = [
        *header,
        "",
        f"# {name}",
        "",
        f"{architecture}, {size / 1e6:.1f} M parameters: {_sizes(folder.config)}.",
        "",
    ]
    if isinstance(folder, CheckpointFolder):
        lines += _history(folder.manifest)
    else:
        lines += [f"Copied by pipeloom from the folder `{folder.path.name}`, which says nothing of its training.", ""]
    lines += [
        "## Use",
        "",
        "```python",
        f"from transformers import AutoTokenizer, {architecture}",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
        f'model = {architecture}.from_pretrained("{name}")',
        "```",
        "",
    ]
    return "\n".join(lines)


def _history(manifest: Any) -> List[str]:
    options = manifest.options()
    declared = declared_options(manifest.plugins)
    cards = {option.name: option.model_card for option in declared}
    recipe = [name for name, wanted in cards.items() if wanted]
    listed = [
        name for name in dict.fromkeys([*recipe, *manifest.given]) if name in options and cards.get(name) is not False
    ]
    plugins = ", ".join(f"{plugin} {version}" if version else plugin for plugin, version in manifest.plugins.items())
    figures = {figure: value for figure, value in manifest.metrics.items() if figure not in _SPEEDS}
    figures.update((f"eval {metric}", value) for metric, value in manifest.evaluation.items())
    measured = (
        _table("figure", ((figure, f"{value:.4f}") for figure, value in figures.items()))
        if figures
        else ["None were taken."]
    )
    return [
        f"Trained with pipeloom {manifest.versions.get('pipeloom', '')}, saved {manifest.saved_at}.",
        "",
        "## Data",
        "",
        f"{manifest.position['samples']:,} samples were seen in {manifest.position['step']:,} steps; fingerprint of "
        f"the set "
        f"`{str(manifest.data)[:16]}`.",
        "",
        "## Recipe",
        "",
        f"Task `{manifest.model['task']}`, plugins {plugins}.",
        "",
        *_table("option", ((o, _shown(options[o])) for o in listed)),
        "",
        "## Metrics",
        "",
        *measured,
        "",
    ]


def _table(what: str, rows: Any) -> List[str]:
    return [f"| {what} | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]


def _shown(value: Any) -> str:
    """Of a path its last name: the rest says where somebody's files lie."""
    text = str(value)
    return Path(text).name if isinstance(value, str) and "/" in text else text.replace("|", "\\|")


def _sizes(config: Mapping[str, Any]) -> str:
    names: Tuple[Tuple[str, str], ...] = (
        ("num_hidden_layers", "layers"),
        ("hidden_size", "hidden"),
        ("num_attention_heads", "heads"),
        ("vocab_size", "words"),
        ("max_position_embeddings", "positions"),
    )
    found: Dict[str, Any] = {label: config[name] for name, label in names if name in config}
    return ", ".join(f"{label} {value}" if label == "hidden" else f"{value} {label}" for label, value in found.items())


def _product(shape: Any) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
