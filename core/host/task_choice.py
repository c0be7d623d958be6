"""Find the task that the samples are for, and the head that stands on the model for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, List, Tuple, TypeVar

from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.core.contract.tasks import ANY_MODEL, Encoder, Head, Task, head_of_family
from pipeloom.core.host import answers
from pipeloom.core.host.calls import call

_Offer = TypeVar("_Offer")


def find_task(plugins: Any, config: Any, name: str) -> Task:
    """Return the task ``name`` of ``plugins``, a ``PluginManager``; its ``head`` chooses by the encoder that it gets.

    Its functions name their plugin where they fail. Raises ``UsageError`` where no plugin has the task, or two have it.
    """
    offers: Dict[str, List[Tuple[str, Task]]] = {}
    for plugin, tasks in plugins.hook.pipeloom_tasks.answers(config=config):
        for task in tasks:
            offers.setdefault(task.name, []).append((plugin, task))
    if name not in offers:
        raise UsageError(
            f"no selected plugin has the task '{name}', which the samples are for{did_you_mean(name, offers)}; "
            f"there are: {', '.join(sorted(offers))}"
        )
    owner, task = _one(plugins, offers[name], f"add the task '{name}'")

    def head(config: Any, encoder: Encoder) -> Head:
        return _find_head(plugins, config, owner, task, encoder)

    where = f"hook pipeloom_tasks, the derived fields of its task '{name}'"
    return replace(
        task,
        head=head,
        derived=lambda config: call(plugins.whose(owner), where, task.derived, config, check=answers.derived),
    )


def _find_head(plugins: Any, config: Any, owner: str, task: Task, encoder: Encoder) -> Head:
    """Return the head of ``task``, which the plugin ``owner`` adds, for ``encoder``: of its family, else for any."""
    offers: Dict[str, List[Tuple[str, Tuple[str, Callable]]]] = {}

    def add(plugin: str, model: str, where: str, build: Callable) -> None:
        offers.setdefault(model, []).append((plugin, (where, build)))

    if task.head is not head_of_family:
        add(owner, ANY_MODEL, f"hook pipeloom_tasks, the head of its task '{task.name}'", task.head)
    for plugin, heads in plugins.hook.pipeloom_heads.answers(config=config):
        for offer in heads:
            if offer.task == task.name:
                add(plugin, offer.model, f"hook pipeloom_heads, its head of the task '{task.name}'", offer.build)
    model = next((model for model in (encoder.family, ANY_MODEL) if model in offers), None)
    if model is None:
        there = ", ".join(sorted(offers))
        raise UsageError(
            f"no selected plugin has a head of the task '{task.name}' for models of the family '{encoder.family}'"
            + (f"{did_you_mean(encoder.family, offers)}; there are heads for: {there}" if there else "")
        )
    kind = "models of any family" if model == ANY_MODEL else f"models of the family '{model}'"
    plugin, (where, build) = _one(plugins, offers[model], f"add a head of the task '{task.name}' for {kind}")
    return call(plugins.whose(plugin), where, build, config, encoder, check=answers.head)


def _one(plugins: Any, offers: List[Tuple[str, _Offer]], what: str) -> Tuple[str, _Offer]:
    """Return the offer that counts, with its plugin: a selected plugin's before a default's.

    Raises ``UsageError`` where two plugins of equal rank do ``what``.
    """
    selected = [offer for offer in offers if plugins.is_selected(offer[0])]
    counting = selected or offers
    if len(counting) > 1:
        first, second = sorted(plugin for plugin, _ in counting)[:2]
        raise UsageError(f"plugins '{first}' and '{second}' both {what}: select only one of them")
    return counting[0]
