"""The plugins that pipeloom ships, and the table that names them (the core names none)."""

from pathlib import Path

from pipeloom.core.host.builtin import BuiltinPlugins

#: Plugins that a run selects by name.
BUILTIN = {
    "inter_first": "pipeloom.plugins.strategies.inter_first",
    "intra_first": "pipeloom.plugins.strategies.intra_first",
    "data_parallel": "pipeloom.plugins.strategies.data_parallel",
    "auto": "pipeloom.plugins.strategies.auto",
    "manual_placement": "pipeloom.plugins.strategies.manual_placement",
    "by_flops": "pipeloom.plugins.strategies.by_flops",
    "by_time": "pipeloom.plugins.strategies.by_time",
    "by_memory": "pipeloom.plugins.strategies.by_memory",
    "manual": "pipeloom.plugins.strategies.manual",
    "bert": "pipeloom.plugins.models.bert",
    "gpt2": "pipeloom.plugins.models.gpt2",
    "roberta": "pipeloom.plugins.models.roberta",
    "wiki_ofrecord": "pipeloom.plugins.datasets.wiki_ofrecord",
    "squad": "pipeloom.plugins.datasets.squad",
    "text": "pipeloom.plugins.datasets.text",
    "wiki_text": "pipeloom.plugins.datasets.wiki_text",
    "classification": "pipeloom.plugins.datasets.classification",
}

#: Plugins that every run has; their one-answer hooks answer last (``trylast``).
ALWAYS = {
    "by_parameters": "pipeloom.plugins.strategies.by_parameters",
    "built_in_tasks": "pipeloom.plugins.tasks",
    "slurm": "pipeloom.plugins.clusters.slurm",
    "oneflow": "pipeloom.plugins.executors.oneflow",
    "optimization": "pipeloom.plugins.optimizers.defaults",
    "lr_schedules": "pipeloom.plugins.optimizers.schedules",
    "console": "pipeloom.plugins.loggers.console",
    "jsonl": "pipeloom.plugins.loggers.jsonl",
    "tensorboard": "pipeloom.plugins.loggers.tensorboard",
    "profiler": "pipeloom.plugins.loggers.profiler",
}

#: The commands beside ``train``, and what the list of commands says of them.
COMMANDS = {
    "plan": (
        "pipeloom.plugins.commands.plan",
        "what a job will do before it runs: layout, memory, bytes, seconds a step and why\n"
        "            (--search, --compare, --explain, --what-if, --json, --html FILE)",
    ),
    "profile": (
        "pipeloom.plugins.commands.profile",
        "measure this cluster (products, memory, networks, a few layouts) for plan and auto: --output cluster.yaml",
    ),
    "report": (
        "pipeloom.plugins.commands.run_report",
        "what a run did beside what was predicted: report RUN [--html FILE] [--cluster cluster.yaml]",
    ),
    "parity": (
        "pipeloom.plugins.commands.parity",
        "train in the given layout and in a single process, and compare the two\n"
        "            (--steps 20 --tolerance 1e-4 and the options of train)",
    ),
    "prepare": (
        "pipeloom.plugins.commands.prepare",
        "text into training data: prepare pretraining ... (prepare --help lists what there is)",
    ),
    "predict": (
        "pipeloom.plugins.commands.predict",
        'what a trained model answers: --checkpoint PATH --question "..." --context "..."',
    ),
    "generate": (
        "pipeloom.plugins.commands.generate",
        'go on with a text by a causal language model: --checkpoint PATH --prompt "..."',
    ),
    "export": (
        "pipeloom.plugins.commands.export",
        "a checkpoint as a folder that transformers loads: --checkpoint PATH --output DIR",
    ),
    "checkpoint": (
        "pipeloom.plugins.commands.checkpoint",
        "ls|verify|show PATH: list the checkpoints of a run, verify their checksums, print one",
    ),
    "plugins": (
        "pipeloom.plugins.commands.plugin_list",
        "list built-in and installed plugins and what they provide\n"
        "            (--check NAME, --hooks NAME, --requirements NAMES, --json)",
    ),
    "config": (
        "pipeloom.plugins.commands.configuration",
        "the resolved configuration and where each value comes from; --schema: for editors",
    ),
    "new-plugin": (
        "pipeloom.plugins.commands.new_plugin",
        "a package of one plugin, with tests that pass: new-plugin strategy|model|dataset|task|optimizer|logger\n"
        "            NAME",
    ),
    "doctor": (
        "pipeloom.plugins.commands.doctor",
        "look whether this machine can train: libraries, devices, memory, disks, network, engine\n"
        "            (--no-engine: only what takes no time)",
    ),
}

#: What ``prepare`` makes.
PREPARE_KINDS = {
    "pretraining": "pipeloom.plugins.datasets.wiki_ofrecord.prepare",
    "squad": "pipeloom.plugins.datasets.squad.prepare",
    "tokens": "pipeloom.plugins.prepare.tokens",
    "inspect": "pipeloom.plugins.prepare.inspect",
    "validate": "pipeloom.plugins.prepare.validate",
    "vocab": "pipeloom.plugins.prepare.vocab",
}

#: Whose records ``prepare validate`` and ``prepare inspect`` know.
RECORD_KINDS = (
    "pipeloom.plugins.datasets.wiki_ofrecord.pretraining_kind",
    "pipeloom.plugins.datasets.squad.question_kinds",
)

#: What the command line is handed (``pipeloom/__main__.py``).
TABLE = BuiltinPlugins(BUILTIN, ALWAYS, Path(__file__).parent, COMMANDS, PREPARE_KINDS, RECORD_KINDS)
