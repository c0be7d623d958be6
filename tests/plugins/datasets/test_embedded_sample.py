"""The sample that is built from Python's own documentation, and its cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pipeloom.core.base.cache import cache_root
from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.datasets.wiki_ofrecord import held_out_sample, sample
from pipeloom.plugins.libraries.corpus import embedded_text
from pipeloom.plugins.libraries.ofrecord.records import decode, index_part
from pipeloom.plugins.libraries.preparation import folders

pytestmark = pytest.mark.fast

#: Without what ``pipeloom[prepare]`` adds, which training must not need.
BUILD = (
    "import sys; sys.modules.update(dict.fromkeys(('sentencex', 'mwparserfromhell')));"
    "from pipeloom.plugins.datasets.wiki_ofrecord.sample import ensure_sample; print(ensure_sample(128, 20))"
)


def start(cache, **env) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PIPELOOM_CACHE": str(cache), **env}
    return subprocess.Popen(
        [sys.executable, "-c", BUILD], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
    )


def digest(folder) -> str:
    files = sorted(folder.iterdir())
    return hashlib.md5(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def leftovers(cache) -> list:
    return [path.name for path in cache.iterdir() if path.name.endswith((".writing", ".replaced"))]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(cache, folder) as one process builds it; tests that change it use ``cheap``."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELOOM_CACHE", str(cache))
        return cache, sample.ensure_sample(128, 20)


@pytest.fixture
def cheap(tmp_path, monkeypatch):
    """An empty cache, and a sample that takes less time: of a few topics only."""
    topics = {
        name: text for name, text in embedded_text.topics().items() if name in ("if", "while", "for", "assignment")
    }
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded_text, "topics", lambda: topics)
    monkeypatch.setitem(sample._SETTINGS, "vocab_size", 600)
    return tmp_path


def test_the_sample_is_what_its_name_says(built):
    cache, folder = built
    assert folder.parent == cache
    meta = json.loads((folder / "meta.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == sorted(["meta.json", *meta["files"]])
    assert sorted(meta["files"]) == ["index.safetensors", "part-0", "part-1", "part-2", "part-3", "vocab.txt"]
    tokens = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(tokens) == sample.sample_vocab_size(folder) == meta["vocab_size"] == 4096
    labels, unknown, words, count = [], 0, 0, 0
    for part in sorted(folder.glob("part-*")):
        data = part.read_bytes()
        for offset, length in index_part(part).tolist():
            record = decode(data[offset : offset + length])
            labels.append(record["next_sentence_labels"][0])
            unknown += (record["input_ids"] == 1).sum()
            words += record["input_mask"].sum()
            count += 1
    assert count == meta["num_samples"] > 2000
    assert 0.45 < np.mean(labels) < 0.6
    assert unknown / words < 0.001
    assert words / count > 90  # most of the 128 places hold text


def test_the_text_is_english_sentences():
    documents = embedded_text.sample_documents()
    sentences = [sentence for document in documents for sentence in document]
    assert len(documents) > 40 and sum(map(len, sentences)) > 150_000
    assert "Assert statements are a convenient way to insert debugging assertions into a program:" in sentences
    assert not [s for s in sentences if re.search(r"::=|>>>|\*{3}|={3}|\n|  ", s)]
    assert all(len(s.split()) >= 3 and s[-1] in '.!?:"”’)' for s in sentences)
    assert len(set(sentences)) > 0.97 * len(sentences)


def test_a_ready_sample_is_found_quickly(built, monkeypatch):
    cache, folder = built
    monkeypatch.setenv("PIPELOOM_CACHE", str(cache))
    monkeypatch.setattr(sample, "_build", None)  # a build would fail
    times = []
    for _ in range(5):
        before = time.perf_counter()
        assert sample.ensure_sample(128, 20) == folder
        times.append(time.perf_counter() - before)
    assert min(times) < 0.05


def test_two_processes_at_once_give_the_same_bytes_as_one(built, tmp_path):
    """They also have different hash seeds; the sample must not depend on them."""
    both = [start(tmp_path, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    folder = tmp_path / built[1].name
    assert [out.strip() for out, _ in outputs] == [str(folder)] * 2
    assert digest(folder) == digest(built[1])
    assert leftovers(tmp_path) == []


def test_racing_without_the_lock_is_safe_too(cheap, monkeypatch):
    """Where files cannot be locked, the loser of the race finds the folder there when it renames its own."""
    real_build = sample._build

    def build_twice(folder, settings):
        other = folder.with_name("other")
        real_build(other, settings)
        monkeypatch.setattr(sample, "_build", real_build)
        real_replace = os.replace

        def replace(source, target):
            if target == folder and other.exists():
                real_replace(other, folder)
            real_replace(source, target)

        monkeypatch.setattr(os, "replace", replace)
        real_build(folder, settings)

    monkeypatch.setattr(sample, "_build", build_twice)
    folder = sample.ensure_sample(32, 4)
    assert folders.is_intact(folder) and leftovers(cheap) == []
    assert not (cheap / "other").exists()


def test_a_killed_build_leaves_nothing_broken(built, tmp_path):
    process = start(tmp_path)
    deadline = time.monotonic() + 30
    while not leftovers(tmp_path):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / built[1].name).exists() and len(leftovers(tmp_path)) == 1
    again = start(tmp_path)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert digest(tmp_path / built[1].name) == digest(built[1])
    assert leftovers(tmp_path) == []


def test_an_interrupt_anywhere_leaves_nothing(cheap, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    for target in ("os.fsync", "os.replace", "pipeloom.plugins.libraries.preparation.folders._checksum"):
        with monkeypatch.context() as patch:
            patch.setattr(target, interrupted)
            with pytest.raises(KeyboardInterrupt):
                sample.ensure_sample(32, 4)
        assert [path.name for path in cheap.iterdir()] == [".lock"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "part-2"),
        lambda folder: flip(folder / "vocab.txt"),
        lambda folder: (folder / "part-1").unlink(),
        lambda folder: os.truncate(folder / "part-0", 100),
        lambda folder: (folder / "meta.json").write_text("[1]"),
        lambda folder: (folder / "part-9").write_bytes(b""),
    ],
    ids=["flipped part", "flipped vocabulary", "missing part", "truncated part", "bad meta", "foreign part"],
)
def test_a_damaged_sample_is_built_again(cheap, damage):
    folder = sample.ensure_sample(32, 4)
    before = digest(folder)
    damage(folder)
    assert digest(folder) != before
    assert sample.ensure_sample(32, 4) == folder
    assert digest(folder) == before and leftovers(cheap) == []


def test_each_size_format_and_text_has_its_own_folder(cheap, monkeypatch):
    monkeypatch.setattr(folders, "is_intact", lambda folder: True)
    found = [sample.ensure_sample(32, 4), sample.ensure_sample(64, 4), sample.ensure_sample(32, 5)]
    monkeypatch.setitem(sample._SETTINGS, "format", 99)
    found.append(sample.ensure_sample(32, 4))
    monkeypatch.setattr(embedded_text, "topics", lambda: {"if": "Another text."})  # as in another Python
    found.append(sample.ensure_sample(32, 4))
    assert len(set(found)) == 5


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("PIPELOOM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert str(cache_root()) == "/home/someone/.cache/pipeloom"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(cache_root()) == "/xdg/pipeloom"
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path))
    assert cache_root() == tmp_path


@pytest.mark.parametrize("root", ["a_file", "a_file/below", "/proc/pipeloom"])
def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, root):
    (tmp_path / "a_file").write_text("")
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path / root))
    says = "cannot build the embedded sample in the cache .*; set PIPELOOM_CACHE to"
    with pytest.raises(UsageError, match=says) as error:
        sample.ensure_sample(32, 4)
    assert "\n" not in str(error.value)


def test_a_full_disk_is_one_line(cheap, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device; set PIPELOOM_CACHE"):
        sample.ensure_sample(32, 4)


def test_a_python_without_the_text_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(UsageError, match="no pydoc_data.topics.*--ofrecord_path"):
        sample.ensure_sample(32, 4)


@pytest.mark.parametrize("sizes, says", [((3, 20), "--seq_length 3"), ((32, 0), "--max_predictions 0")])
def test_sizes_that_cannot_be_are_one_line(cheap, sizes, says):
    with pytest.raises(UsageError, match=says):
        sample.ensure_sample(*sizes)


def test_what_is_held_out_is_not_in_the_text_that_is_trained_on(built):
    trained = {sentence for document in embedded_text.sample_documents() for sentence in document}
    documents = embedded_text.held_out_documents(embedded_text.held_out_sources())
    sentences = [sentence for document in documents for sentence in document]
    assert len(documents) == len(embedded_text.MODULES) and len(sentences) > 1000
    assert not trained.intersection(sentences)


def test_held_out_samples_follow_the_vocabulary(cheap, monkeypatch):
    monkeypatch.setattr(embedded_text, "MODULES", ("bdb", "difflib"))
    found = [held_out_sample.ensure_held_out(32, 4), held_out_sample.ensure_held_out(32, 5)]
    monkeypatch.setitem(sample._SETTINGS, "vocab_size", 700)
    found.append(held_out_sample.ensure_held_out(32, 4))
    assert len(set(found)) == 3 and all(folders.is_intact(folder) for folder in found)
    assert [sample.sample_vocab_size(folder) for folder in found] == [600, 600, 700]


def test_code_in_held_out_text_is_quoted_as_in_the_training_text():
    source = 'def f():\n    """Use ``a`` and `b\', or `c`; \'it\' isn\'t theirs."""'
    assert embedded_text.docstrings(source) == ['Use "a" and "b", or "c"; "it" isn\'t theirs.']


def test_a_library_without_sources_is_one_line(cheap, monkeypatch, tmp_path):
    monkeypatch.setattr(embedded_text.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(
        UsageError,
        match=r"^this Python has no .*/_collections_abc.py, whose docstrings .*; give held-out data with "
        r"--eval_path$",
    ):
        held_out_sample.ensure_held_out(32, 4)
