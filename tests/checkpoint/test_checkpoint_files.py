"""Checkpoints on disk: the format, whole or not at all at every write point, what is kept and what goes."""

from __future__ import annotations

import json
import os
import random
import shutil
import weakref

import checkpoints
import numpy as np
import pytest
from checkpoints import SHAPES, Ranks, manifest, points_of, save_alone, value
from safetensors.numpy import load_file

from pipeloom.core.base import files
from pipeloom.core.base.errors import RunError
from pipeloom.core.checkpoint import tensors, writing
from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.manifest import BadCheckpoint, optimizer_key, read_manifest, verify
from pipeloom.core.checkpoint.saver import Saver
from pipeloom.core.checkpoint.store import Store
from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.planning.goal import Goal

pytestmark = pytest.mark.fast


def check_whole(path, step):
    """Every tensor of the checkpoint is that of ``step``."""
    checkpoint = Checkpoint(path)
    assert verify(path).step == checkpoint.manifest.step == step
    for name, shape in SHAPES.items():
        spec = ParameterSpec(name, shape)
        np.testing.assert_array_equal(checkpoint.parameter(spec), value(name, "", step))
        np.testing.assert_array_equal(checkpoint.optimizer("exp_avg", spec), value(name, "exp_avg", step))


def test_what_is_streamed_is_what_the_library_writes(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.float64([[1]]),
        "é": np.zeros((0, 4), np.float32),
        "c": np.arange(8, dtype=np.int64)[::2],
    }
    digest, size = files.write_file(tmp_path / "x.safetensors", tensors.pieces(arrays))
    loaded = load_file(str(tmp_path / "x.safetensors"))
    assert set(loaded) == set(arrays) and size == (tmp_path / "x.safetensors").stat().st_size
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        np.testing.assert_array_equal(tensors.read(tmp_path / "x.safetensors", name), array)
    assert files.sha256_of(tmp_path / "x.safetensors") == digest
    with pytest.raises(TypeError, match="tensor a is of bool"):
        list(tensors.pieces({"a": np.zeros(2, bool)}))


class Counted:
    """Arrays made one after the other; ``most`` is how many bytes of earlier ones were still alive when one was
    made.
    """

    def __init__(self) -> None:
        self.most, self._made = 0, []

    def make(self, *shape):
        self.most = max(self.most, sum(array.nbytes for array in (made() for made in self._made) if array is not None))
        array = np.zeros(shape, np.float32)
        self._made.append(weakref.ref(array))
        return array


def test_arrays_that_are_streamed_are_in_memory_one_at_a_time(tmp_path):
    kinds = {name: (np.dtype(np.float32), (5, 2)) for name in "abc"}
    counted = Counted()
    files.write_file(tmp_path / "x.safetensors", tensors.streamed(kinds, (counted.make(5, 2) for _ in kinds)))
    loaded = load_file(str(tmp_path / "x.safetensors"))
    assert counted.most == 0 and {name: array.shape for name, array in loaded.items()} == dict.fromkeys("abc", (5, 2))


def test_training_that_waits_keeps_no_more_than_a_file_in_memory(tmp_path, monkeypatch):
    """Of what was handed over before, less than a file's worth is alive when the next tensor is made."""
    monkeypatch.setattr(writing, "FILE_BYTES", 1000)
    counted = Counted()

    class State:
        stage_count = 1

        def stage_of_writer(self, rank):
            return 0

        def tensors(self, to_rank_0=False):
            for kind in ("", "exp_avg"):
                for number, size in enumerate([500, 90, 60, 90, 100, 30]):  # x 4 bytes: the first is larger than a file
                    yield f"p{number}", kind, counted.make(size)

    saver = Saver(tmp_path, State(), 0, lambda text: [text], keep=1, goal=Goal("loss"), in_background=False)
    saver.save(manifest(1))
    saved = saver.poll()
    assert saved.error is None and 0 < counted.most <= 1000
    files = verify(saved.path).files
    assert all(entry.bytes < 1500 for entry in files.values() if len(entry.tensors) > 1)
    assert sum(len(entry.tensors) for entry in files.values()) == 12


def test_two_ranks_make_one_checkpoint(tmp_path):
    ranks = Ranks(tmp_path)
    saved = ranks.save(7)
    assert saved.error is None and saved.path == tmp_path / "checkpoints" / "step_0000007" and saved.bytes > 0
    check_whole(saved.path, 7)
    stored = read_manifest(saved.path)
    # By parameter name; which rank wrote it shows in nothing but the name of a file.
    assert {tensor for entry in stored.files.values() for tensor in entry.tensors} == {
        *SHAPES,
        *(optimizer_key("exp_avg", n) for n in SHAPES),
    }
    assert stored.optimizer_kinds == ["exp_avg"] and stored.metrics == {"loss": 1.5}
    assert sorted(path.name for path in saved.path.iterdir()) == sorted(["checkpoint.json", *stored.files])
    assert ranks.savers[0].poll() is None and ranks.savers[1].poll() is None


def test_waiting_and_writing_in_the_background_give_the_same_files(tmp_path):
    for folder, how in (("a", True), ("b", False)):
        assert Ranks(tmp_path / folder, in_background=how).save(1).error is None
    a, b = (read_manifest(tmp_path / folder / "checkpoints" / "step_0000001") for folder in "ab")
    assert a.files == b.files


def test_only_so_many_are_kept_and_the_best_besides(tmp_path):
    ranks = Ranks(tmp_path, keep=2)
    for step, loss in enumerate([3.0, 1.0, 2.0, 2.5, 1.0], start=1):
        assert ranks.save(step, {"loss": loss}).error is None
    store = Store(tmp_path / "checkpoints")
    assert [path.name for path in store.checkpoints()] == ["step_0000002", "step_0000004", "step_0000005"]
    assert store.best() == {"checkpoint": "step_0000002", "metric": "loss", "value": 1.0}
    assert store.last() == "step_0000005"
    for content in ("", "[]", "null", '{"checkpoint": "x"}', '{"checkpoint": "x", "metric": "loss", "value": "low"}'):
        pointer = (tmp_path / "checkpoints" / "best").read_bytes()
        (tmp_path / "checkpoints" / "best").write_text(content)
        assert store.best() is None
        (tmp_path / "checkpoints" / "best").write_bytes(pointer)
    assert ranks.save(6, {"loss": 0.5}).error is None
    assert store.best()["checkpoint"] == "step_0000006" and [p.name for p in store.checkpoints()] == [
        "step_0000005",
        "step_0000006",
    ]


def names(directory):
    return [path.name for path in Store(directory / "checkpoints").checkpoints()]


def test_without_a_number_all_are_kept(tmp_path):
    save_alone(tmp_path, *range(1, 7), keep=None)
    assert len(names(tmp_path)) == 6 and Store(tmp_path / "checkpoints").surplus(None) == []


@pytest.mark.parametrize("spare, left", [(True, [1, 2, 3, 6, 7]), (False, [6, 7])], ids=["carried over", "asked for"])
def test_a_run_that_goes_on_removes_no_more_than_it_adds_unless_told_so(tmp_path, spare, left):
    save_alone(tmp_path, 1, 2, 3, 4, 5, keep=None)
    assert [path.name[-1] for path in Store(tmp_path / "checkpoints").surplus(2)] == ["1", "2", "3"]
    save_alone(tmp_path, 6, 7, keep=2, spare=spare)
    assert [int(name[-1]) for name in names(tmp_path)] == left


def test_of_a_run_that_went_another_way_and_of_others_nothing_is_removed(tmp_path):
    """A later checkpoint that is damaged must not cost the one that was saved just now."""
    save_alone(tmp_path, 8, 9, keep=None)
    folder = tmp_path / "checkpoints"
    (folder / "step_0000009" / "checkpoint.json").write_text("{")
    others = ["step_0000001.bak", "best_copy", ".step_0000001.mine", ".step_notes"]
    for name in others:
        (folder / name).mkdir()
    (folder / ".step_0000007.19abc.writing").mkdir()
    save_alone(tmp_path, 3, 4, 5, keep=1)
    assert names(tmp_path) == ["step_0000005", "step_0000008", "step_0000009"]
    assert {path.name for path in folder.iterdir()} == {*names(tmp_path), *others, "last"}


def test_of_some_metrics_more_is_better(tmp_path):
    ranks = Ranks(tmp_path, goal=Goal("mlm_accuracy", higher=True))
    for step, accuracy in enumerate([0.1, 0.4, 0.3], start=1):
        ranks.save(step, {"mlm_accuracy": accuracy, "loss": accuracy})
    assert Store(tmp_path / "checkpoints").best()["checkpoint"] == "step_0000002"


@pytest.mark.parametrize("before", [(1, 2), (2, 3)], ids=["new", "again"])
def test_killed_at_every_write_point_the_newest_whole_checkpoint_is_right(tmp_path, monkeypatch, before):
    """Step 3 is saved over 1 and 2 (keep 2), or over an older 3; the process is gone at each point on the way."""
    # Files outlive a process whether they are on the disk yet or not; waiting for it, a thousand times, would be most
    # of what this takes.
    monkeypatch.setattr(files.os, "fsync", lambda number: None)
    save_alone(tmp_path / "before", *before)
    count = len(points_of(lambda: save_alone(shutil.copytree(tmp_path / "before", tmp_path / "count"), 3)))
    assert count > 20
    for number in range(count):
        # Another folder each time: removing takes longer.
        run = shutil.copytree(tmp_path / "before", tmp_path / f"run_{number}")
        assert _killed_at(number, lambda run=run: save_alone(run, 3))
        store = Store(run / "checkpoints")
        found, skipped = store.newest_whole()
        assert found is not None and skipped == [], number
        check_whole(found, 3 if 3 in before or found.name.endswith("3") else 2)
        assert len(store.checkpoints()) >= 2  # nothing older goes before the new one is whole
        if number % 4:
            continue
        # The next run goes on from there, and what was left behind is gone.
        save_alone(run, 4)
        assert [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")] == []
        check_whole(store.newest_whole()[0], 4)


def _killed_at(number, action):
    """Do ``action`` in a process that ends at write point ``number``; whether it did."""
    child = os.fork()
    if child == 0:
        left = [number]

        def crossing(point):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

        files.crossing = crossing
        try:
            action()
        finally:
            os._exit(0)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("rank", [0, 1])
def test_a_full_disk_costs_that_checkpoint_and_nothing_older(tmp_path, monkeypatch, rank):
    ranks = Ranks(tmp_path)
    assert ranks.save(1).error is None
    write, full = files.write_file, [True]

    def failing(path, pieces):
        if full[0] and f"-{rank:03d}-" in path.name:
            raise OSError(28, "No space left on device", str(path))
        return write(path, pieces)

    monkeypatch.setattr(files, "write_file", failing)
    saved = ranks.save(2)
    assert saved.path is None and (rank == 0 or "rank 1: " in saved.error)
    assert "No space left on device" in saved.error and "-00000.safetensors" in saved.error
    store = Store(tmp_path / "checkpoints")
    assert [path.name for path in store.checkpoints()] == ["step_0000001"] and len(
        list((tmp_path / "checkpoints").iterdir())
    ) == 2
    full[0] = False
    assert ranks.save(3).error is None
    check_whole(store.newest_whole()[0], 3)


def test_a_tensor_that_is_not_finite_is_never_saved(tmp_path, monkeypatch):
    ranks = Ranks(tmp_path)
    monkeypatch.setattr(
        checkpoints,
        "value",
        lambda name, kind, step: np.full(SHAPES[name], np.nan if name == "head.weight" else 1, np.float32),
    )
    saved = ranks.save(1)
    assert saved.path is None and "'head.weight' is not finite" in saved.error
    assert Store(tmp_path / "checkpoints").newest_whole() == (None, [])
    # A sum that is too large for float32 is no damage.
    monkeypatch.setattr(checkpoints, "value", lambda name, kind, step: np.full(SHAPES[name], 3e38, np.float32))
    assert ranks.save(2).error is None


def test_ranks_that_see_other_folders_let_rank_0_write(tmp_path, monkeypatch):
    from pipeloom.core.checkpoint import saver

    class Elsewhere(saver.Saver):
        def __init__(self, directory, state, rank, *rest, **settings):
            super().__init__(tmp_path / f"node_{rank}", state, rank, *rest, **settings)

    monkeypatch.setattr(checkpoints, "Saver", Elsewhere)
    ranks = Ranks(tmp_path)
    assert not ranks.savers[0].shared and not ranks.savers[1].shared
    check_whole(ranks.save(1).path, 1)
    assert not (tmp_path / "node_1" / "checkpoints").exists()


def test_a_damaged_byte_anywhere_is_found(tmp_path):
    save_alone(tmp_path, 1, 2)
    store = Store(tmp_path / "checkpoints")
    path = store.directory / "step_0000002"
    generator = random.Random(5)
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        for _ in range(40):
            position = generator.randrange(len(content))
            flipped = bytearray(content)
            flipped[position] ^= 1 << generator.randrange(8)
            file.write_bytes(flipped)
            try:
                verify(path)
            except BadCheckpoint as bad:
                assert file.name in str(bad)
            else:  # white space between the values of the manifest says nothing
                assert file.name == "checkpoint.json" and json.loads(flipped) == json.loads(content)
        file.write_bytes(content)
    newest, skipped = store.newest_whole()
    assert newest == path and skipped == []


@pytest.mark.parametrize(
    "damage, told",
    [
        (lambda path: (path / "checkpoint.json").unlink(), "checkpoint.json: No such file"),
        (
            lambda path: (path / "parameters-000-00000.safetensors").unlink(),
            "parameters-000-00000.safetensors: No such file",
        ),
        (lambda path: (path / "checkpoint.json").write_text("{"), "checkpoint.json is damaged"),
        (lambda path: (path / "checkpoint.json").write_text('{"sha256": 1}'), "its checksum differs"),
        (
            lambda path: (path / "optimizer-000-00000.safetensors").write_bytes(b"12345678"),
            "has 8 bytes, it should have",
        ),
    ],
    ids=["no manifest", "no shard", "not JSON", "not ours", "cut off"],
)
def test_what_is_not_whole_is_passed_over_with_a_word(tmp_path, damage, told):
    save_alone(tmp_path, 1, 2)
    damage(tmp_path / "checkpoints" / "step_0000002")
    found, skipped = Store(tmp_path / "checkpoints").newest_whole()
    check_whole(found, 1)
    assert len(skipped) == 1 and told in skipped[0] and "step_0000002" in skipped[0]


def test_a_shard_that_vanishes_is_one_line(tmp_path):
    save_alone(tmp_path, 1)
    checkpoint = Checkpoint(tmp_path / "checkpoints" / "step_0000001")
    spec = ParameterSpec("bert.word", SHAPES["bert.word"])
    with pytest.raises(RunError, match="no tensor 'optimizer/exp_avg_sq/bert.word'"):
        checkpoint.optimizer("exp_avg_sq", spec)
    with pytest.raises(RunError, match=r"has the shape \[7, 3\], the model needs \[3, 7\]"):
        checkpoint.parameter(ParameterSpec("bert.word", (3, 7)))
    (checkpoint.path / "parameters-000-00000.safetensors").unlink()
    with pytest.raises(RunError, match="step_0000001: No such file"):
        checkpoint.parameter(spec)


def test_a_later_format_is_refused(tmp_path, monkeypatch):
    from pipeloom.core.checkpoint import manifest as manifests

    monkeypatch.setattr(manifests, "FORMAT", 99)
    save_alone(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(BadCheckpoint, match="does not know"):
        verify(tmp_path / "checkpoints" / "step_0000001")


def test_the_manifest_says_where_a_run_is():
    assert manifest(3).option("train_steps") == 100 and manifest(3).option("nothing", 7) == 7 and manifest(3).step == 3
