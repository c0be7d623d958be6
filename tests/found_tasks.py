"""The tasks as a run with the plugin ``bert`` finds them: each chooses its head by the encoder that it is given."""

from __future__ import annotations

from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.task_choice import find_task


def found_task(name, *plugins):
    """Return the task ``name`` of the selected ``plugins`` and the defaults."""
    manager = PluginManager()
    manager.load(plugins)
    return find_task(manager, None, name)


PRETRAINING = found_task("pretraining", "bert")
QUESTION_ANSWERING = found_task("question_answering", "bert")
