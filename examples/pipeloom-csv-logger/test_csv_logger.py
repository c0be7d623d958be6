import sys
from types import SimpleNamespace

import pipeloom_csv_logger as logger
import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.testing import conformance_tests

test_it_keeps_to_the_contract = conformance_tests("csv_logger")


def run_in(folder, project=None, start_step=0):
    config = SimpleNamespace(wandb_project=project, to_dict=lambda: {"seed": 1})
    return SimpleNamespace(is_main=True, directory=folder, config=config, start_step=start_step)


def test_steps_are_rows_and_new_metrics_columns(tmp_path):
    run = run_in(tmp_path)
    logger.pipeloom_on_run_start(run)
    logger.pipeloom_on_step_end(run, 1, {"loss": 2.5})
    logger.pipeloom_on_step_end(run, 2, None)
    logger.pipeloom_on_step_end(run, 3, {"loss": 2.25, "lr": 0.5})
    assert (tmp_path / "metrics.csv").read_text() == "step,loss,lr\n1,2.5,\n3,2.25,0.5\n"


def test_a_run_that_goes_on_logs_no_step_twice(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2.5\n2,2.4\n3,2.3\n4,")
    run = run_in(tmp_path, start_step=2)
    logger.pipeloom_on_run_start(run)
    logger.pipeloom_on_step_end(run, 3, {"loss": 2.25})
    assert (tmp_path / "metrics.csv").read_text() == "step,loss\n1,2.5\n2,2.4\n3,2.25\n"


class Wandb:
    """What is used of the package, noting it."""

    def __init__(self):
        self.run, self.noted = None, []

    def init(self, **arguments):
        self.run = arguments["project"]

    def log(self, values, step):
        self.noted.append((step, values))

    def finish(self, exit_code):
        self.noted.append(exit_code)


def test_weights_and_biases_get_the_same(tmp_path, monkeypatch):
    fake = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run = run_in(tmp_path, "bert")
    logger.pipeloom_on_run_start(run)
    logger.pipeloom_on_step_end(run, 1, {"loss": 2.5})
    logger.pipeloom_on_evaluate(run, 1, {"loss": 2.0})
    logger.pipeloom_on_run_end(run, None)
    assert (fake.run, fake.noted) == ("bert", [(1, {"loss": 2.5}), (1, {"evaluation/loss": 2.0}), 0])


def test_without_the_package_the_option_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="pip install wandb"):
        logger.pipeloom_on_run_start(run_in(tmp_path, "bert"))
