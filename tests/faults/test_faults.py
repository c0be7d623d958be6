"""The faults that need a real run; benchmarks/reliability.py tries them all, and many more instants."""

from __future__ import annotations

import pytest
from cases import STEPS, Reference, disk_full, restarted
from harness import ONE, kill_all
from kills import Disturbed


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    yield Reference(tmp_path_factory.mktemp("reference"))
    kill_all()


def test_killed_at_four_instants_the_curve_is_the_same_to_the_bit(tmp_path, reference):
    """While the engine starts, between two steps, amid the tensors of a checkpoint, and as the pointer to the last one
    moves.
    """
    run = Disturbed(tmp_path, STEPS, save_every=2, layout=ONE)
    run.kill_at_point(7)
    run.kill_in_step(3, 0.05)
    run.kill_at(2.0)
    run.kill_at_point(58)
    assert len(run.kills) == 4 and not run.over
    assert run.finish() == reference(*ONE)
    assert [kill.resumed_from for kill in run.kills] == sorted(kill.resumed_from for kill in run.kills)
    assert any("struck" not in kill.what and kill.whole > 0 for kill in run.kills)


def test_a_job_restarts_itself_from_the_last_whole_checkpoint(tmp_path, reference):
    row = restarted(tmp_path, reference, layout=ONE, rank=0)
    assert row.line == "pipeloom: restart 1 of 2: from step_0000006"


def test_a_full_disk_costs_one_checkpoint(tmp_path, reference):
    try:
        row = disk_full(tmp_path, reference)
    except OSError as error:
        pytest.skip(str(error))
    assert row.line.startswith("NOT SAVED  step 20: ")
