"""What two nodes must have in common: each subject's hash changes with its subject and with nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from squad_files import qa, squad, write_json, write_vocab

from pipeloom.core.base.errors import RunError
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.dataset import Dataset, Field
from pipeloom.core.launch import identity as identities
from pipeloom.core.launch.identity import identity
from pipeloom.core.planning.planner import make_plan
from pipeloom.plugins.libraries.ofrecord.reader import OFRecordDataset
from pipeloom.plugins.libraries.ofrecord.records import write_part

pytestmark = pytest.mark.fast
ROOT = Path(__file__).resolve().parents[2]
NODE = ["--nnodes", "2", "--master_addr", "10.0.0.1", "--node_rank", "0"]
SUBJECTS = {"code", "plugins", "config", "data", "versions"}


def of(*flags, selected="inter_first,bert,wiki_ofrecord", node=NODE):
    config, plugins = parse(["--plugins", selected, *node, *flags])
    return identity(make_plan(config, plugins), plugins)


def differing(first, second):
    assert first.keys() == second.keys() == SUBJECTS
    return {subject for subject in SUBJECTS if first[subject] != second[subject]}


@pytest.fixture(scope="module")
def usual():
    return of()


def test_a_hash_is_sixteen_digits_and_the_same_again(usual):
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in usual.values())
    assert of() == usual


@pytest.mark.parametrize(
    "flags",
    [
        ["--node_rank", "1"],
        ["--output_dir", "elsewhere"],
        ["--interface", "lo"],
        ["--device", "cpu"],
        ["--master_addr", "node0.example.org"],
    ],
)
def test_what_may_differ_between_nodes_does_not_count(usual, flags):
    assert differing(of(*flags), usual) == set()


@pytest.mark.parametrize(
    "flags",
    [["--seed", "7"], ["--nnodes", "4"], ["--learning_rate", "0.5"], ["--nums_split", "4"], ["--master_port", "4000"]],
)
def test_other_options_count(usual, flags):
    assert differing(of(*flags), usual) == {"config"}


def test_plugins_count_by_name_version_and_source(usual, tmp_path, monkeypatch):
    assert differing(of(selected="intra_first,bert,wiki_ofrecord"), usual) == {
        "plugins",
        "config",
    }  # another placement, too
    here, there = tmp_path / "a" / "mine.py", tmp_path / "b" / "mine.py"
    for path in (here, there):
        path.parent.mkdir()
        shutil.copy(ROOT / "plugins" / "strategies" / "inter_first.py", path)
    first = of(selected=f"{here},bert,wiki_ofrecord")
    assert differing(of(selected=f"{there},bert,wiki_ofrecord"), first) == set()
    there.write_text(there.read_text() + "\n# changed\n")
    assert differing(of(selected=f"{there},bert,wiki_ofrecord"), first) == {"plugins"}


def test_a_plugin_in_a_package_counts_with_its_package(tmp_path, monkeypatch):
    package = tmp_path / "zigzag"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(ROOT / "plugins" / "strategies" / "inter_first.py", package / "strategy.py")
    (package / "helper.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    first = of(selected="zigzag.strategy,bert,wiki_ofrecord")
    (package / "helper.py").write_text("a = 2\n")
    assert differing(of(selected="zigzag.strategy,bert,wiki_ofrecord"), first) == {"plugins"}


def test_code_counts_by_relative_name_and_content(tmp_path):
    """Two checkouts in two places; then one of them is changed, and then a file of it gets another name."""

    def code_of(checkout):
        program = (
            "from pipeloom.core.host.builtin import use_builtin; from pipeloom.plugins import TABLE; "
            "use_builtin(TABLE);"
            "from pipeloom.core.launch import identity; print(identity._hash(identity._code()), identity.__file__)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=checkout, stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
        value, file = done.stdout.split()
        assert Path(file).resolve() == checkout.resolve() / "core" / "launch" / "identity.py"
        return value

    for name in ("pipeloom", "core", "plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "entry.py", tmp_path)
    first = code_of(tmp_path)
    assert first == identities._hash(identities._code())
    with open(tmp_path / "plugins" / "optimizers" / "lamb.py", "a") as file:
        file.write("# changed\n")
    changed = code_of(tmp_path)
    (tmp_path / "plugins" / "optimizers" / "lamb.py").rename(tmp_path / "plugins" / "optimizers" / "lamp.py")
    assert len({first, changed, code_of(tmp_path)}) == 3


def test_versions_count(usual, monkeypatch):
    monkeypatch.setattr(identities.metadata, "version", lambda name: "1.2.3")
    assert differing(of(), usual) == {"versions"}


def test_it_is_quick(usual):
    config, plugins = parse(["--plugins", "inter_first,bert,wiki_ofrecord", *NODE])
    plan, seconds = make_plan(config, plugins), []
    for _ in range(3):
        start = time.process_time()
        identity(plan, plugins)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5


# --- the data

IDS = Field("ids", (4,), "int32", low=0, high=1000)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        write_part(folder / f"part-{number}", [{"ids": np.full(4, number * 10 + i, np.int32)} for i in range(5)])
    return folder


def fingerprint(path, **changes):
    return OFRecordDataset(path, [IDS], task="t", vocab_size=changes.get("vocab_size", 1000)).fingerprint()


def test_data_is_the_same_wherever_it_lies(folder, tmp_path):
    before = fingerprint(folder)
    shutil.copytree(folder, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == before and fingerprint(f"{folder}/../data") == before
    assert fingerprint(folder, vocab_size=999) != before


@pytest.mark.parametrize("change", ["content", "name", "fewer", "swapped", "cut"])
def test_other_data_is_noticed(folder, change):
    before = fingerprint(folder)
    if change == "content":
        data = bytearray((folder / "part-1").read_bytes())
        data[-1] ^= 1
        (folder / "part-1").write_bytes(data)
    elif change == "name":
        (folder / "part-2").rename(folder / "part-7")
    elif change == "fewer":
        (folder / "part-2").unlink()
    elif change == "swapped":
        for old, new in (("part-0", "x"), ("part-1", "part-0"), ("x", "part-1")):
            (folder / old).rename(folder / new)
    else:
        write_part(folder / "part-2", [{"ids": np.full(4, 20, np.int32)}])
    assert fingerprint(folder) != before


def test_both_ends_of_a_large_part_and_the_lengths_of_its_records_count(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeloom.plugins.libraries.ofrecord.reader._SAMPLE_BYTES", 64)
    records = [{"ids": np.full(4, i, np.int32)} for i in range(100)]
    seen = []
    for changed in (None, 0, 99, 50):
        write_part(
            tmp_path / "part-0",
            [{"ids": record["ids"] + (100 if i == changed else 0)} for i, record in enumerate(records)],
        )
        seen.append(fingerprint(tmp_path))
    assert len(set(seen)) == 4  # ids of 150 take a byte more than those of 50: the length of a record in the middle
    write_part(
        tmp_path / "part-0", [{"ids": record["ids"] + (1 if i == 50 else 0)} for i, record in enumerate(records)]
    )
    assert fingerprint(tmp_path) == seen[0]  # what the docstring says it does not see


def test_a_part_that_went_away_is_one_line(folder):
    data = OFRecordDataset(folder, [IDS], task="t", vocab_size=1000)
    (folder / "part-1").unlink()
    with pytest.raises(RunError, match="cannot read .*part-1: No such file"):
        data.fingerprint()


def test_a_dataset_without_files_has_a_fingerprint_too():
    class Plain(Dataset):
        task, fields, vocab_size = "t", {"ids": IDS}, 1000

        def __len__(self):
            return 7

    assert Plain().fingerprint() == Plain().fingerprint()
    longer = type("Longer", (Plain,), {"__len__": lambda self: 8})
    other = type("Other", (Plain,), {"fields": {"ids": Field("ids", (5,), "int32", low=0, high=1000)}})
    assert len({Plain().fingerprint(), longer().fingerprint(), other().fingerprint()}) == 3


def test_files_that_an_option_names_count_by_content(usual, tmp_path, monkeypatch):
    def config_of(folder):
        config, plugins = parse(["--plugins", "inter_first,bert,wiki_ofrecord", *NODE])
        plan = make_plan(config, plugins)
        changed = plan.config.replace(init_from=str(folder))
        facts = type("P", (), {**vars(plan), "config": changed})
        return identities._config(facts), identities._files(changed)

    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    assert config_of(tmp_path / "a") == config_of(tmp_path / "b") != config_of(tmp_path / "c")


def test_questions_may_lie_in_other_folders_on_other_nodes(tmp_path):
    """And any path of a third party's; what differs in content is named by its option."""
    reader = tmp_path / "reader.py"
    reader.write_text(
        "import pipeloom\n@pipeloom.hookimpl\ndef pipeloom_add_options(options):\n"
        "    options.add('words', str, path=True, help='a list')\n"
    )
    found = []
    for name, question, word in (("a", "Where?", "x"), ("b", "Where?", "x"), ("c", "Who?", "y")):
        folder = tmp_path / name
        folder.mkdir()
        train = write_json(folder / "train.json", squad([qa("1", question=question)]))
        dev = write_json(folder / "dev.json", squad([qa("2")]))
        vocab = write_vocab(folder / "vocab.txt", "paris", "rome")
        (folder / "words.txt").write_text(word)
        flags = ["--squad_train", f"{train}:1", "--squad_dev", dev, "--vocab", vocab, "--words", folder / "words.txt"]
        sizes = ["--seq_length", "64", "--doc_stride", "8", "--max_query_length", "8"]
        found.append(of(*map(str, flags), *sizes, selected=f"inter_first,bert,squad,{reader}"))
    first, same, other = found
    assert first == same
    assert {name for name in first if first[name] != other[name]} == {"--squad_train", "--words", "data"}
