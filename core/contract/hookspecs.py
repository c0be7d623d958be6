"""The contract between pipeloom and its plugins: one hook after another.

A plugin is a module that implements some of these hooks as functions, each marked with ``@pipeloom.hookimpl``; or an
object that has them as methods: what an entry point names (``box:strategy``), or the object ``plugin`` of a module that
has no hooks as functions (``plugin = Strategy()``). A class is no plugin, an instance of it is. A hook takes those of
its arguments that it wants, by their names here, and is no coroutine or generator. A wrapper of the other plugins'
answers (``hookimpl(hookwrapper=True)``, or ``wrapper=True`` where pluggy is 1.2 or later) is a generator with one
``yield``; what it leaves is held to the contract as an answer is.

Only plugins that a run selects (``--plugins a,b,c``) answer. A hook marked *one answer* must be answered by exactly one
selected plugin; where pipeloom ships a default, that default answers when no selected plugin does. Other hooks are
answered by every plugin that has them.

An answer must be what is said here: ``None`` is one only where it says so. Raise
``pipeloom.core.base.errors.UsageError`` with one line for what the user got wrong; it is shown as it is. Any other
exception, and an answer of a wrong kind, ends the command with a line that names the plugin and the hook;
PIPELOOM_TRACEBACK=1 shows the traceback before it, and of a rank it is kept in the folder ``logs`` of the run.

Importing a plugin must be cheap: import oneflow inside the functions that run tensors, not at the
top of the module, so that ``--help`` and ``plugins`` stay quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import pluggy

hookspec = pluggy.HookspecMarker("pipeloom")

#: The version of this contract, raised with every change that a plugin may notice (docs/plugins.md lists them). A
#: plugin may state the version that it was written for: ``PIPELOOM_API = 2``. One for a later version is refused.
CONTRACT_VERSION = 2


@dataclass(frozen=True)
class Deprecation:
    """A hook, or with ``argument`` one argument of it, that plugins should no longer use.

    ``since`` and ``removed_in`` are versions of the contract; ``instead`` says what to use. A plugin that uses it gets
    a warning; from ``removed_in`` on, when it is no longer in this module, an error that says the same.
    """

    hook: str
    since: int
    removed_in: int
    instead: str
    argument: str = ""

    def __str__(self) -> str:
        what = f"the argument '{self.argument}' of hook {self.hook}" if self.argument else f"hook {self.hook}"
        if self.removed_in <= CONTRACT_VERSION:
            return f"{what} is gone since version {self.removed_in} of the contract: {self.instead}"
        return (
            f"{what} is deprecated since version {self.since} of the contract and goes with version "
            f"{self.removed_in}: {self.instead}"
        )


DEPRECATIONS: Tuple[Deprecation, ...] = ()

#: Hooks with exactly one answer, and what the answer is called in messages.
ONE_ANSWER = {
    "pipeloom_choose_layout": "layout",
    "pipeloom_partition": "partitioner",
    "pipeloom_place": "strategy",
    "pipeloom_build_model": "model",
    "pipeloom_open_dataset": "dataset",
    "pipeloom_executor": "executor",
    "pipeloom_build_optimizer": "optimizer",
    "pipeloom_lr_schedule": "learning-rate schedule",
}

#: Hooks that are answered at all; ``core/host/answers.py`` holds each answer to what its text here says.
ANSWERED = (
    *ONE_ANSWER,
    "pipeloom_commands",
    "pipeloom_prepare_kinds",
    "pipeloom_record_kinds",
    "pipeloom_tasks",
    "pipeloom_heads",
    "pipeloom_initial_distributions",
    "pipeloom_sample_fields",
    "pipeloom_default_options",
    "pipeloom_cluster_options",
)


@hookspec
def pipeloom_add_options(options):
    """Declare this plugin's options: ``options.add(name, type, default, help=..., section=...)``.

    Called once, after the plugins are loaded and before the command line is parsed. Each option is at
    once a flag (``--name``), a key of the YAML file (``section: {name: ...}``) and an attribute of
    ``config``. A name that is already taken is an error that names both owners. Nobody answers: the
    run has the options of the core alone.
    """


@hookspec
def pipeloom_default_options(config):
    """Defaults that this plugin has for options of the core and of others: a dict by name.

    Called when the command line is parsed, of every plugin; ``config.given`` names the options that the user gave,
    whose values stay, and a resumed run keeps what it had. So a dataset can say what its task is usually trained with.
    A name that no selected plugin declares is passed over; two plugins that answer different values for one are an
    error that names both. Nobody answers: the defaults that the options were declared with.
    """


@hookspec
def pipeloom_cluster_options(environment, given):
    """What the batch system that has started this launcher says of the cluster: ``ClusterOptions``, or ``None``.

    The class is in ``pipeloom.core.contract.cluster_options``. Called when the command line of ``train`` is parsed, in
    a launcher alone. ``environment`` are its variables, ``given`` the options by name that the user, or an earlier
    command of the run, gave. A value counts where ``given`` has none, and a line says so; one of a name that no
    selected plugin declares is passed over. Of several plugins that have values the one selected last counts. Values of
    options that a resumed run does not keep (``resume="fresh"``) are not written into a file: another job has another
    environment. Nobody answers, or nobody has values: the defaults of options.
    """


@hookspec(firstresult=True)
def pipeloom_choose_layout(cluster, model, config, memory):
    """One answer: the ``Mesh`` (pipeline x data x tensor sizes) to use on this ``Cluster``, or a ``LayoutChoice``.

    Called when the model is built, in the launcher alone: ranks get what was chosen. ``model`` is the ``ModelSpec``,
    with the costs of its blocks. A ``LayoutChoice`` (``pipeloom.core.contract.layout_choice``) also decides split,
    placement, and options that the user left open. ``memory(mesh, split, options)`` says what a rank of each stage
    would take: a list of ``PredictedMemory``. Default: from ``--nums_split``. An answer whose sizes do not multiply to
    the number of ranks is an error. On a single device neither this nor the partitioner nor the strategy is called.
    """


@hookspec(firstresult=True)
def pipeloom_partition(blocks, num_stages, config, memory):
    """One answer: how many blocks each stage gets, as a list of ``num_stages`` positive counts.

    ``blocks`` is the model's list of ``Block``; the counts sum up to its length. ``memory(counts)`` says what a rank of
    each stage would take: a list of ``PredictedMemory``. Default: the exact split by number of parameters whose largest
    stage is smallest.
    """


@hookspec(firstresult=True)
def pipeloom_place(cluster, mesh, model, config):
    """One answer, no default: the ``Placement``, which ranks hold each stage.

    Called after the partitioner; ``model`` is the ``ModelSpec``, with the costs of its blocks.
    OneFlow sorts the ranks of a stage and pairs neighbouring stages by position, so an answer is a set
    of ranks per stage; ``Placement.hops`` tells what will really happen. Nobody answers: an error that
    lists the strategies there are.
    """


@hookspec
def pipeloom_commands():
    """List the commands that this plugin adds: ``pipeloom.core.contract.commands.Command``.

    Called when the command line begins with a name that pipeloom does not have: of the plugins that ``--plugins`` names
    there, and where none of them has the command, of every installed one. A selection in which it was found is not part
    of the command's arguments. Two plugins with one name are an error that names both.
    """


@hookspec
def pipeloom_prepare_kinds():
    """List what this plugin adds to ``prepare``: ``pipeloom.core.contract.commands.PrepareKind``.

    Called when ``prepare`` is given a kind that pipeloom does not have, and for its ``--help``: of the plugins that
    ``prepare --plugins A,B`` names, then of every installed one. Two plugins with one name are an error that names
    both.
    """


@hookspec
def pipeloom_record_kinds():
    """List the kinds of records that ``prepare validate`` and ``prepare inspect`` know by this plugin.

    Each is a ``pipeloom.core.contract.record_kinds.RecordKind``: what the records of a folder of this kind are held to,
    what is counted in them, and how one is shown. Called by these two commands: of the plugins that their ``--plugins``
    names, which come before pipeloom's own kinds, and of every installed one for records that are of no other kind.
    Two plugins for one record are an error that names both.
    """


@hookspec
def pipeloom_tasks(config):
    """List the tasks that this plugin adds: ``pipeloom.core.contract.tasks.Task``.

    Called before the model is built, of every plugin; the run's task is the one that the dataset names as its ``task``,
    so nothing selects it besides. A ``Task`` says what the samples are for, which fields are derived from theirs, and
    which figures the dataset's ``scorer()`` makes of outputs; it may bring a head for any encoder. A selected plugin's
    task replaces a default one of its name; two selected plugins that add one name are an error, as is a dataset whose
    task nobody adds. ``plugins/tasks/question_answering.py`` is one to start from.
    """


@hookspec
def pipeloom_heads(config):
    """List the heads that this plugin has for tasks: ``pipeloom.core.contract.tasks.HeadFor(task, model, build)``.

    Called when the model is built, of every plugin. ``build(config, encoder)`` states the ``Head`` that stands on the
    hidden states: its block, losses, metrics, and its outputs per sample. Of the heads for the run's task the one for
    the encoder's family counts, else the one for any model (``"*"``, or the task's own). A selected plugin's replaces a
    default's; two equal ones are an error that names both plugins, as is a task without a head for the model.
    """


@hookspec(firstresult=True)
def pipeloom_build_model(config, task):
    """One answer, no default: the ``ModelSpec`` for ``task``, a ``pipeloom.core.contract.tasks.Task``.

    Called when the dataset has named the task: the blocks of the model's encoder, and last ``task.head(config,
    encoder).block``, which is the head for this task and the family of the encoder. States parameters, costs and loss
    without importing an engine; each block's ``build`` is called later, in the ranks. Raise ``UsageError`` for sizes
    that do not fit or a task it cannot do.
    """


@hookspec
def pipeloom_initial_distributions(config):
    """Name the distributions of initial values that this plugin adds: a dict of functions ``(generator, spec)``.

    Each makes the float32 value of ``spec.shape`` of a parameter whose ``ParameterSpec.init`` is its name;
    ``generator`` is numpy's, seeded by the run's seed and the parameter's name, so that the values are the same in
    every layout. Called when the model is built and in every rank. ``"normal"``, ``"zeros"`` and ``"ones"`` are always
    there; a name that is there twice is an error, as is a parameter whose distribution nobody adds.
    """


@hookspec
def pipeloom_sample_fields(config):
    """List the fields that this plugin adds to every batch: ``pipeloom.core.contract.sample_fields.SampleField``.

    Called of every plugin once the dataset is open, in the launcher, in every rank and by ``predict``. Blocks name such
    a field in their ``inputs`` like one of the dataset. It is computed from the run's seed, the number of the batch and
    the indices of the samples of the whole global batch, so it is the same in every layout and after a resume. A name
    that core, the dataset or another plugin has is an error, as is a model that has it in ``labels`` or ``normalize``.
    """


@hookspec(firstresult=True)
def pipeloom_open_dataset(config, split):
    """One answer, no default: the ``Dataset`` of ``split``, ``"train"`` or ``"eval"``.

    Called in the launcher (where it may build a cache) and again in every rank. Nobody answers: an error that lists the
    datasets there are. ``"eval"`` is asked for with ``--eval_every``, and where the training data says by ``held_out``
    that an option names such samples: held-out samples with the fields, the task and the vocabulary of the training
    data. ``None`` where the dataset has no such split, or a ``UsageError`` that says how to get one. To train on
    several sources in given shares, answer with a ``pipeloom.core.data.mixture.MixedDataset`` of them. The fields that
    losses alone need may be absent from held-out samples, where their ``scored`` names outputs per sample that their
    ``scorer()`` makes figures of. A dataset's ``vocabulary`` is copied into checkpoints.
    """


@hookspec(firstresult=True)
def pipeloom_executor(config):
    """One answer: the ``Executor`` that runs the plan, of ``pipeloom.core.contract.executor``.

    Called in the launcher, to check that it can do what is planned, and in every rank, which then starts it. Default:
    OneFlow's nn.Graph pipeline.
    """


@hookspec(firstresult=True)
def pipeloom_build_optimizer(config, parameters):
    """One answer: the optimizer, as data or of the plugin's own.

    Either an ``OptimizerSpec``, which the engine realises, or a ``StepOptimizer``, which works between the steps; both
    of ``pipeloom.core.contract.optimizer``. ``parameters`` is the list of the model's ``ParameterSpec``. Called when
    the model is built, and again in every rank. Clipping by ``--clip_grad_norm`` is done before the optimizer sees the
    gradients. Default: AdamW, LAMB or SGD by ``--optimizer``.
    """


@hookspec(firstresult=True)
def pipeloom_lr_schedule(config):
    """One answer: the learning rate of each step, by a method ``at(step)``, for steps from 0.

    An ``LRSchedule`` of ``pipeloom.core.contract.schedule`` is computed inside the engine; by another object the
    optimizer works between the steps, which takes a little longer. Default: by ``--lr_schedule``, with
    ``--warmup_steps``.
    """


@hookspec
def pipeloom_on_run_start(run):
    """The graph is about to be compiled. Called on every rank; ``run.is_main`` on one of them.

    ``run`` has ``config``, ``plan``, ``directory``, ``plugins``, ``rank``, ``start_step``, ``total_steps``; of the
    engine ``training`` and ``collectives``, as ``pipeloom.core.contract.executor`` describes them; and ``phases``, of
    which ``listeners`` are told what this process does beside the steps (``data``, ``evaluation``, ...), and when.
    """


@hookspec
def pipeloom_on_step_end(run, step, metrics):
    """Step ``step`` (counted from 1) has ended. Called on every rank.

    ``metrics`` is a dict of floats every ``--log_every`` steps and at the first and last step, else
    ``None``: reading a loss waits for the devices, so it is not done at every step.
    """


@hookspec
def pipeloom_on_evaluate(run, step, metrics):
    """The model was evaluated on the held-out set after step ``step``.

    Called on every rank, after ``pipeloom_on_step_end``.

    ``metrics`` is a dict of floats over the whole set: ``loss``, its parts, the model's metrics, and the figures of the
    dataset's scorer; of samples without labels these alone. Files of the scorer are in ``evaluations/step_NNNNNNN`` by
    then. Every ``--eval_every`` steps and after the last step; never without a held-out set.
    """


@hookspec
def pipeloom_on_checkpoint(run, step, path):
    """The checkpoint of ``step`` is whole on the disk, in the folder ``path``. Called on the main rank alone.

    It was written while training went on, so later steps may have been made. A failed one is not reported here.
    """


@hookspec
def pipeloom_on_run_end(run, error):
    """The run is over; ``error`` is the exception that ended it, or ``None``. Close files here."""
