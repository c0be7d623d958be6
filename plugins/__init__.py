"""The plugins that pipeloom ships, and the table that names them (the core names none)."""

from pathlib import Path

from pipeloom.core.host.builtin import BuiltinPlugins

#: Plugins that a run selects by name.
BUILTIN = {
    "inter_first": "pipeloom.plugins.strategies.inter_first",
    "intra_first": "pipeloom.plugins.strategies.intra_first",
    "data_parallel": "pipeloom.plugins.strategies.data_parallel",
    "manual_placement": "pipeloom.plugins.strategies.manual_placement",
    "by_flops": "pipeloom.plugins.strategies.by_flops",
    "manual": "pipeloom.plugins.strategies.manual",
    "bert": "pipeloom.plugins.models.bert",
    "wiki_ofrecord": "pipeloom.plugins.datasets.wiki_ofrecord",
    "squad": "pipeloom.plugins.datasets.squad",
}

#: Plugins that every run has; their one-answer hooks answer last (``trylast``).
ALWAYS = {
    "by_parameters": "pipeloom.plugins.strategies.by_parameters",
    "built_in_tasks": "pipeloom.plugins.tasks",
    "optimization": "pipeloom.plugins.optimizers.defaults",
    "console": "pipeloom.plugins.loggers.console",
    "jsonl": "pipeloom.plugins.loggers.jsonl",
    "tensorboard": "pipeloom.plugins.loggers.tensorboard",
}

#: What the command line is handed (``pipeloom/__main__.py``).
TABLE = BuiltinPlugins(BUILTIN, ALWAYS, Path(__file__).parent)
