"""What a task is: a head on an encoder's hidden states, the fields it reads, what it gives for scoring, and when it
does well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.blocks import Block
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.derived import DerivedField


@dataclass(frozen=True)
class Encoder:
    """What a head may know of the encoder before it.

    ``prefix``: of the encoder's parameters in HuggingFace's layout (``"bert"``); ``word_table``: the name of its word
    embedding, ``(vocab, hidden)``; ``tied``: whether a head that turns hidden states into words shall use that table
    for it; ``padding``: the id whose vector there is not trained by being looked up, as transformers has it for
    ``pad_token_id``; ``activation``: what the encoder has between dense layers, one of ``core.contract.layers.ACTIVATIONS``.
    """

    hidden: int
    vocab: int
    seq_length: int
    norm_eps: float
    prefix: str
    word_table: str
    tied: bool
    padding: Optional[int] = None
    activation: str = "gelu"


@dataclass(frozen=True)
class Head:
    """The last block of a model, and what the core must know of it.

    ``block`` is called with hidden states ``(B, L, hidden)`` and returns a dict of scalar tensors (``ModelSpec`` says
    how they are summed) named in ``losses`` and, in evaluation, ``metrics``; and in evaluation the ``outputs`` per
    sample beside them: name -> shape of one sample, float32, ``(B, *shape)``. ``labels`` are the fields that losses and
    metrics alone need: samples without them can be evaluated by their outputs, and predicted. ``word_part`` names the
    sub-module of the block that holds the word table, which the embeddings then borrow; ``None`` where the head has no
    use for it.

    For HuggingFace folders: ``architecture`` is what follows the encoder's name in the class (``"ForPreTraining"``);
    ``aliases`` are further names under which a folder may hold a parameter (its own stands before them, unless it is
    among them); ``repeated`` tensors that say once more what a parameter says, with its name: a folder where they
    differ does not tie the two.
    """

    block: Block
    losses: Mapping[str, float]
    metrics: Tuple[str, ...] = ()
    outputs: Mapping[str, Tuple[int, ...]] = field(default_factory=dict)
    labels: Tuple[Field, ...] = ()
    normalize: Tuple[str, ...] = ()
    word_part: Optional[str] = None
    architecture: str = "Model"
    aliases: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    repeated: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A task by its ``name``, which datasets give as theirs.

    ``head(config, encoder)`` states the head for an ``Encoder``; it imports oneflow no earlier than its block's
    ``build``. ``derived(config)`` gives fields that the core makes of those of the dataset, for the head to read.
    ``figures`` names what the scorer of a dataset of this task measures. The best checkpoint has the best
    ``best_metric`` (the best loss where that is not measured), unless the user names another; of those in ``higher``
    more is better, of all others less.
    """

    name: str
    head: Callable[[Any, Encoder], Head]
    derived: Callable[[Any], Sequence[DerivedField]] = lambda config: ()
    figures: Tuple[str, ...] = ()
    best_metric: str = "loss"
    higher: Tuple[str, ...] = ()


def find_task(plugins: Any, config: Any, name: str) -> Task:
    """The task ``name`` of the selected plugins, whose functions name their plugin where they fail.

    Raises ``UsageError`` where there is none, or two of that name.
    """
    found: Dict[str, Tuple[Task, str]] = {}
    for plugin, tasks in plugins.hook.pipeloom_tasks.answers(config=config):
        for task in tasks:
            if task.name in found:
                raise UsageError(
                    f"plugins '{found[task.name][1]}' and '{plugin}' both add the task '{task.name}': "
                    "select only one of them"
                )
            found[task.name] = task, plugin
    if name not in found:
        raise UsageError(
            f"no selected plugin has the task '{name}', which the samples are for{did_you_mean(name, found)}; "
            f"there are: {', '.join(sorted(found))}"
        )
    return _guarded(found[name][0], plugins.whose(found[name][1]))


def _guarded(task: Task, whose: str) -> Task:
    from pipeloom.core.host import answers
    from pipeloom.core.host.calls import call

    def guarded(function: Callable, what: str, check: Callable) -> Callable:
        where = f"hook pipeloom_tasks, {what} of its task '{task.name}'"
        return lambda *arguments: call(whose, where, function, *arguments, check=check)

    return replace(
        task,
        head=guarded(task.head, "the head", answers.head),
        derived=guarded(task.derived, "the derived fields", answers.derived),
    )
