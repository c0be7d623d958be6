"""What a task is, and the heads that stand on an encoder for it.

A task is named by what the samples are. Which head reads them is chosen by the task and by the family of the encoder:
one family may predict masked words by its own layers, another by others, on the same samples.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.blocks import Block
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.derived import DerivedField
from pipeloom.core.contract.tokenizer import TokenizerSource

#: The family of a head that stands on encoders of any family.
ANY_MODEL = "*"


@dataclass(frozen=True)
class Encoder:
    """Describe to a head the encoder before it.

    ``family``: the kind of model, by the name that ``model_type`` in a HuggingFace ``config.json`` has for it.
    ``prefix``: what its parameters' names begin with in HuggingFace's layout; ``word_table``: the name of its word
    embedding, ``(vocab, hidden)``; ``tied``: whether a head that turns hidden states into words shall use that table
    for it; ``padding``: the id whose vector there is not trained by being looked up, as transformers has it for
    ``pad_token_id``; ``activation``: what the encoder has between dense layers, one of
    ``core.contract.layers.ACTIVATIONS``; ``causal``: a token sees no later one.
    """

    family: str
    hidden: int
    vocab: int
    seq_length: int
    norm_eps: float
    prefix: str
    word_table: str
    tied: bool
    padding: Optional[int] = None
    activation: str = "gelu"
    causal: bool = False


@dataclass(frozen=True)
class Head:
    """State the last block of a model, and what the core must know of it.

    ``block`` is called with hidden states ``(B, L, hidden)`` and returns a dict of scalar tensors (``ModelSpec`` says
    how they are summed) named in ``losses`` and, in evaluation, ``metrics``; and in evaluation the ``outputs`` per
    sample beside them: name -> shape of one sample, float32, ``(B, *shape)``; one that costs something may be left out
    unless it is in ``scope.scored``. ``labels`` are the fields that losses and
    metrics alone need: samples without them can be evaluated by their outputs, and predicted. ``word_part`` names the
    attribute of the built block that looks up words, which the embeddings then borrow; ``None`` where it has none.
    ``decodes``: it returns ``NEXT_LOGITS`` while sequences are decoded (``ModelSpec.decoded``).

    For HuggingFace folders: ``architecture`` is what follows the encoder's name in the class (``"ForTokenLabels"``),
    ``pipeline_tag`` what model hubs call the task (``"token-classification"``); ``aliases`` are further names under
    which a folder may hold a parameter (its own stands before them, unless it is among them); ``repeated`` tensors that
    say once more what a parameter says, with its name: a folder where they differ does not tie the two; ``fresh`` are
    parameters that start anew where a folder has them in another shape (a layer for other classes); ``config`` is what
    ``config.json`` says because of this head (``id2label``).
    """

    block: Block
    losses: Mapping[str, float]
    metrics: Tuple[str, ...] = ()
    outputs: Mapping[str, Tuple[int, ...]] = field(default_factory=dict)
    labels: Tuple[Field, ...] = ()
    normalize: Tuple[str, ...] = ()
    word_part: Optional[str] = None
    decodes: bool = False
    architecture: str = "Model"
    pipeline_tag: Optional[str] = None
    aliases: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    repeated: Mapping[str, str] = field(default_factory=dict)
    fresh: Tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


#: Makes the head for ``(config, encoder)``; imports no engine, which its block's ``build`` alone may do.
BuildHead = Callable[[Any, Encoder], Head]


@dataclass(frozen=True)
class HeadFor:
    """Offer a head for the samples of ``task`` on encoders of the family ``model``, or of any (``ANY_MODEL``)."""

    task: str
    model: str
    build: BuildHead


def head_of_family(config: Any, encoder: Encoder) -> Head:
    """Stand for the head of a task that has none for any model: each family's comes by the hook pipeloom_heads."""
    raise UsageError(
        f"this task has no head for any model: one for '{encoder.family}' comes by the hook pipeloom_heads"
    )


@dataclass(frozen=True)
class Predictions:
    """Hold what ``predict`` found: a text of JSON for each input, what is printed in place of them, and a summary."""

    lines: Sequence[str]
    shown: Sequence[str] = ()
    summary: str = ""


class TrainedModel:
    """Give a task the model that ``predict`` was pointed at."""

    #: What ``--checkpoint`` names.
    path: Path

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the content of its ``config.json``, as a HuggingFace folder of this model would have it."""
        raise NotImplementedError("abstract")

    def setting(self, name: str, kind: type) -> Any:
        """Return ``name`` of the model's ``config.json``. Raises ``UsageError`` where it is absent or no ``kind``."""
        raise NotImplementedError("abstract")

    def vocabulary(self, path: Optional[str] = None, lowercase: Optional[bool] = None) -> TokenizerSource:
        """Return the tokenizer that the model was trained with, or that of ``path``. Raises ``UsageError``."""
        raise NotImplementedError("abstract")

    def outputs(
        self,
        fields: Mapping[str, np.ndarray],
        seq_length: int,
        high: Mapping[str, int] = MappingProxyType({}),
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> Dict[str, np.ndarray]:
        """Return the outputs of the task's head for samples: name -> float32 ``(samples, *shape)``.

        ``fields``: those of the samples by name, int32 or float32 ``(samples, *shape)``; values of those in ``high``
        must be from 0 to below that. ``seq_length``: tokens of a sample. ``settings``: options of the model's plugins
        that these samples decide, as ``Dataset.settings``; those that none of them declares are passed over. Raises
        ``UsageError``.
        """
        raise NotImplementedError("abstract")


@dataclass(frozen=True)
class Predictor:
    """Say what ``predict`` does for a task.

    ``add_arguments(parser)`` declares the options beside those of the command (``--checkpoint``, ``--task``,
    ``--plugins``, ``--output``, ``--batch_size``, ``--device``); ``run(options, model)`` does the work with a
    ``TrainedModel``. ``architecture``: how the class of a HuggingFace folder ends that is for this task
    (``"ForTokenLabels"``).
    """

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, TrainedModel], Predictions]
    architecture: str = ""


@dataclass(frozen=True)
class Task:
    """Describe a task by its ``name``, which datasets give as theirs.

    ``head(config, encoder)`` states a head that stands on any encoder; without one each family of models needs its
    own (hook ``pipeloom_heads``). The task that a model plugin is given always has one: it chooses the most specific
    head for ``encoder.family``. ``derived(config)`` gives fields that the core makes of those of the dataset, for the
    head to read. ``figures`` names what the scorer of a dataset of this task measures; ``derived_figures`` are those
    that follow from the losses and metrics of an evaluation, each by a function of these. The best checkpoint has the
    best ``best_metric`` (the best loss where that is not measured), unless the user names another; of those in
    ``higher`` more is better, of all others less. ``predict`` says what the command of this name does for the task.
    """

    name: str
    head: BuildHead = head_of_family
    derived: Callable[[Any], Sequence[DerivedField]] = lambda config: ()
    figures: Tuple[str, ...] = ()
    derived_figures: Mapping[str, Callable[[Mapping[str, float]], float]] = field(default_factory=dict)
    best_metric: str = "loss"
    higher: Tuple[str, ...] = ()
    predict: Optional[Predictor] = None
