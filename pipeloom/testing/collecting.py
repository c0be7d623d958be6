"""Which checks fit a plugin, by the hooks that it has; and tests of them for pytest."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from pipeloom.core.base.errors import PipeloomError
from pipeloom.testing import datasets, folders, loggers, models, optimizers, strategies
from pipeloom.testing.check import ENGINE_MARK, Check, ConformanceError, need
from pipeloom.testing.elsewhere import environment
from pipeloom.testing.layouts import layout_check
from pipeloom.testing.subject import Subject

#: Modules that cost seconds to import, or start an engine.
HEAVY = ("oneflow", "torch", "tensorflow", "jax", "transformers")


def loads_and_makes_a_plan(subject: Subject, folder: Path) -> None:
    """It is a plugin, and with the others of its run it gets as far as ranks would be started."""
    need(not subject.fault, f"no run can be planned with it: {subject.fault}")


def imports_no_engine(subject: Subject, folder: Path) -> None:
    """``--help`` and ``plugins`` import every plugin, and should not wait."""
    code = (
        "import sys; from pipeloom.testing.subject import Subject; "
        f"Subject({','.join(subject.selected)!r}).hooks; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    if done.returncode:
        raise ConformanceError(f"in a process of its own it does not load: {done.stderr.strip().splitlines()[-1]}")
    loaded = done.stdout.split()
    need(not loaded, f"importing it imports {', '.join(loaded)}: import that inside the functions that use it")


LOADS = Check("loads_and_makes_a_plan", loads_and_makes_a_plan)
ANY = [Check("imports_no_engine", imports_no_engine)]
#: The checks of each hook. Those of the tasks and heads are those of the model that they stand on.
_MODEL = [
    Check("takes_the_parameters_it_declares", models.takes_the_parameters_it_declares),
    Check("reads_the_fields_it_states", models.reads_the_fields_it_states),
    Check("returns_what_it_states", models.returns_what_it_states),
    Check("states_the_flops_it_computes", models.states_the_flops_it_computes),
    Check("states_the_bytes_it_keeps", models.states_the_bytes_it_keeps),
    Check("splits_over_tensor_groups", models.splits_over_tensor_groups),
    Check("comes_back_from_a_folder", folders.comes_back_from_a_folder),
    *(layout_check(layout, optimizer) for layout in ("PP2", "DP2", "TP2") for optimizer in ("adamw", "sgd")),
]
_SAME = Check("answers_the_same_everywhere", strategies.answers_the_same_everywhere)
_SURVIVES = [
    Check("survives_a_run", loggers.survives_a_run),
    Check("writes_on_the_main_rank_alone", loggers.writes_on_the_main_rank_alone),
]
CHECKS: Dict[str, List[Check]] = {
    "pipeloom_place": [
        Check("places_every_rank_once", strategies.places_every_rank_once),
        _SAME,
        layout_check("PP2xDP2", "sgd"),
    ],
    "pipeloom_choose_layout": [Check("lays_out_the_cluster", strategies.lays_out_the_cluster), _SAME],
    "pipeloom_partition": [
        Check("partitions_all_blocks", strategies.partitions_all_blocks),
        _SAME,
        layout_check("PP2", "sgd"),
    ],
    "pipeloom_build_model": _MODEL,
    "pipeloom_tasks": _MODEL,
    "pipeloom_heads": _MODEL,
    "pipeloom_open_dataset": [
        Check("gives_the_fields_it_declares", datasets.gives_the_fields_it_declares),
        Check("is_the_same_when_opened_again", datasets.is_the_same_when_opened_again),
        Check("goes_on_after_a_resume", datasets.goes_on_after_a_resume),
        Check("holds_out_what_it_trains_for", datasets.holds_out_what_it_trains_for),
        layout_check("PP2", "sgd"),
        layout_check("DP2", "sgd"),
    ],
    "pipeloom_build_optimizer": [
        Check("agrees_between_layouts_of_numbers", optimizers.agrees_between_layouts_of_numbers),
        Check("keeps_its_state_in_checkpoints", optimizers.keeps_its_state_in_checkpoints),
        layout_check("PP2"),
        layout_check("DP2"),
        layout_check("DP2_spread"),
    ],
    "pipeloom_lr_schedule": [
        Check("has_a_rate_for_every_step", optimizers.has_a_rate_for_every_step),
        layout_check("PP2"),
    ],
    "pipeloom_on_run_start": _SURVIVES,
    "pipeloom_on_step_end": _SURVIVES,
    "pipeloom_on_evaluate": _SURVIVES,
    "pipeloom_on_checkpoint": _SURVIVES,
    "pipeloom_on_run_end": _SURVIVES,
}


def checks_of(subject: Subject) -> List[Check]:
    """List the checks that fit ``subject``, each once; of one that cannot be loaded or planned, that alone."""
    try:
        hooks = subject.hooks
    except PipeloomError:
        return [LOADS]
    fitting = [check for hook in CHECKS if hook in hooks for check in CHECKS[hook]]
    by_name = {check.name: check for check in (LOADS, *ANY, *fitting)}
    return list(by_name.values())


def conformance_tests(selection: str, *options: str, engine: bool = True) -> Callable[..., None]:
    """Return a test for pytest that checks the first plugin of ``selection``, which is as ``--plugins`` has it.

    ``options``: flags of the run around it. ``engine``: also by training, which is marked ``pipeloom_engine``.
    """
    import pytest

    @pytest.mark.parametrize("check", parameters(Subject(selection, options), engine))
    def test_conformance(check: Tuple[Subject, Check], tmp_path: Path) -> None:
        run_check(check, tmp_path)

    return test_conformance


def parameters(subject: Subject, engine: bool = True) -> List[Any]:
    """The checks as parameters of a test."""
    import pytest

    marks = {True: [getattr(pytest.mark, ENGINE_MARK)], False: []}
    return [
        pytest.param((subject, check), id=f"{Path(subject.name).stem}-{check.name}", marks=marks[check.engine])
        for check in checks_of(subject)
        if engine or not check.engine
    ]


def run_check(check: Tuple[Subject, Check], folder: Path) -> None:
    """Run one check; it fails by its one line. Where no run can be planned, one check says so, and others wait."""
    import pytest

    subject, one = check
    if one not in (LOADS, *ANY) and subject.fault:
        pytest.skip(f"no run can be planned with it (see {LOADS.name})")
    fault = ""
    try:
        one.run(subject, folder)
    except (ConformanceError, PipeloomError) as error:
        fault = f"{subject.name}: {error}"
    if fault:
        pytest.fail(fault, pytrace=False)


def subject_of(text: str) -> Subject:
    """The subject that ``--pipeloom TEXT`` names: a selection, and after it flags of its run."""
    selection, *options = shlex.split(text) or [""]
    return Subject(selection, options)
