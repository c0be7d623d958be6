"""csv_logger: ``metrics.csv`` and ``evaluation.csv`` in the run directory, and on demand Weights & Biases."""

import csv
import io

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.files import replace_file
from pipeloom.core.base.output import append_to_log, outliving

METRICS, EVALUATION = "metrics.csv", "evaluation.csv"


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add(
        "wandb_project",
        str,
        None,
        section="logging",
        resume="free",
        help="log to this project of Weights & Biases, too (pip install 'pipeloom-csv-logger[wandb]')",
    )


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    """Remove what was logged after the checkpoint that the run goes on from: it logs those steps again."""
    if run.is_main:
        for path in (run.directory / METRICS, run.directory / EVALUATION):
            if path.exists():
                columns, rows = _read(path)
                steps = [row.get("step", "") for row in rows]
                kept = [row for row, step in zip(rows, steps) if step.isdecimal() and int(step) <= run.start_step]
                with outliving(path):
                    _write(path, columns, kept)
        if run.config.wandb_project is not None:
            _wandb().init(project=run.config.wandb_project, dir=run.directory, config=run.config.to_dict())


@pipeloom.hookimpl
def pipeloom_on_step_end(run, step, metrics):
    if run.is_main and metrics is not None:
        _add(run, METRICS, step, metrics)


@pipeloom.hookimpl
def pipeloom_on_evaluate(run, step, metrics):
    if run.is_main:
        _add(run, EVALUATION, step, metrics, prefix="evaluation/")


@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    if run.is_main and run.config.wandb_project is not None and _wandb().run is not None:
        _wandb().finish(exit_code=0 if error is None else 1)


def _wandb():
    try:
        import wandb
    except ImportError:
        raise UsageError("--wandb_project needs Weights & Biases: pip install wandb, or leave it out") from None
    return wandb


def _add(run, name, step, metrics, prefix=""):
    """Append a row; a column that is new puts the file down again with it."""
    path, row = run.directory / name, {"step": step, **metrics}
    with outliving(path):
        columns = _read(path, rows=False)[0] if path.exists() else []
        if set(row) - set(columns):
            columns = list(dict.fromkeys([*columns, *row]))
            _write(path, columns, _read(path)[1] if path.exists() else [])
        append_to_log(path, _text(columns, [row]))
    if run.config.wandb_project is not None and _wandb().run is not None:
        _wandb().log({prefix + key: value for key, value in metrics.items()}, step=step)


def _read(path, rows=True):
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="")
        return list(reader.fieldnames or ()), list(reader) if rows else []


def _write(path, columns, rows):
    header = dict(zip(columns, columns))
    replace_file(path, _text(columns, [header, *rows]).encode())


def _text(columns, rows):
    file = io.StringIO()
    csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n").writerows(rows)
    return file.getvalue()
