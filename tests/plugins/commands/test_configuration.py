"""``entry.py config``: what the options come to, from where, and the schema by which editors know them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from json_schema import is_valid, read

from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands.cli import main, parse
from pipeloom.plugins import BUILTIN

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = "inter_first,bert,wiki_ofrecord"
_CACHE = {}


@pytest.fixture
def printed(tmp_path, monkeypatch, capsys):
    """``printed("--schema")`` is what ``config --schema`` prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELOOM_LOAD_PLUGINS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(*arguments):
        assert main(["config", *arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def schema(printed):
    def make(plugins=PLUGINS):
        return json.loads(printed("--schema", *(["--plugins", plugins] if plugins else [])))

    return make


def yaml_of(page):
    return re.findall(r"^```yaml\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def test_the_yaml_of_the_page_is_valid_and_means_what_it_says(schema, printed):
    (text,) = yaml_of("docs/configuration.md")
    assert is_valid(read(text), schema()) and is_valid(read(text), schema(""))
    Path("run.yaml").write_text(text)
    config = parse(["--config", "run.yaml"])[0]
    assert (config.num_hidden_layers, config.train_global_batch_size, config.shuffle) == (2, 16, False)
    said = [line.split() for line in printed("--config", "run.yaml", "--set", "train.seed=7").splitlines()]
    assert ["train_global_batch_size:", "16", "#", "--config", "run.yaml"] in said and [
        "seed:",
        "7",
        "#",
        "--set",
    ] in said


@pytest.mark.parametrize("data", ["wiki_ofrecord", "squad"])
def test_the_configuration_of_a_run_is_valid(schema, data):
    plugins = f"manual_placement,manual,bert,{data}"
    config = parse(["--plugins", plugins, "--stages", "0,3;1,2", "--split", "2,1", "--recompute", "1"])[0]
    assert is_valid(read(config.to_yaml()), schema(plugins)) and is_valid(read(config.to_yaml()), schema(""))


def test_every_default_is_valid_by_the_schema_of_its_option(schema):
    """Of every plugin by itself: two that do not go together may have an option of one name."""
    for name in BUILTIN:
        content = schema(name)
        defaults = {option: place["default"] for option, place in content["$defs"].items() if "default" in place}
        assert len(defaults) > 20 and is_valid(defaults, content), name


VALID = [
    "seed: 3",
    "seed: 1e4",
    "train: {seed: 3}",
    "train:",
    "nnodes:",
    "gpu-num-per-node: 2",
    "cluster: {gpu_num_per_node: 2}",
    "shuffle: no",
    "recompute: 2",
    "recompute: full",
    "learning_rate: 1e-4",
    "plugins: inter_first,bert",
    "plugins: [./mine.py, bert, -console]",
    "strategy: inter_first",
    "x-any: {seed: hello}",
    "output_dir: runs/2026",
]
WRONG = [
    "seed: hello",
    "seed: -1",
    "seed: 1.5",
    "seed:",
    "sead: 3",
    "model: {seed: 3}",
    "trian: {seed: 3}",
    "train: 3",
    "shuffle: maybe",
    "device: gpu",
    "learning_rate: fast",
    "seq_length: 4",
    "master_port: 70000",
    "plugins: 3",
    "plugins: [{a: 1}]",
    "tie_embeddings: [true]",
    "- 3",
]


@pytest.mark.parametrize("text, right", [*((text, True) for text in VALID), *((text, False) for text in WRONG)])
def test_the_schema_and_the_reader_agree(schema, text, right):
    """The reader of --config and the schema take and refuse the same."""
    content = _CACHE["schema"] = _CACHE.get("schema") or schema()
    value = read(text)
    assert is_valid(value, content) is right
    Path("run.yaml").write_text(text)
    selected = [] if "plugins" in text and not right else ["--plugins", PLUGINS]
    if right:
        assert parse([*selected, "--config", "run.yaml"])
    else:
        with pytest.raises(UsageError, match="run.yaml"):
            parse([*selected, "--config", "run.yaml"])


def test_lists_of_numbers_are_written_in_both_ways(schema):
    content = schema("manual_placement,manual,bert,wiki_ofrecord")
    for text, right in {
        "stages: [[0, 3], [1, 2]]": True,
        'stages: "0,3;1,2"': True,
        "split: [2, 1]": True,
        "split: 2,1": True,
        "split: 3": True,
        "split: [2, x]": False,
        "stages: {a: 1}": False,
        "split:": True,
    }.items():
        assert is_valid(read(text), content) is right, text


def test_an_option_is_described_to_editors(schema):
    content = schema()
    assert content["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert content["title"] == "pipeloom configuration (inter_first, bert, wiki_ofrecord)"
    batch = content["$defs"]["train_global_batch_size"]
    assert (batch["type"], batch["default"], batch["minimum"]) == ("integer", 32, 1)
    assert batch["description"].startswith("samples of one optimizer step") and batch["description"].endswith("256]")
    assert content["$defs"]["lr_schedule"]["enum"] == ["constant", "linear", "polynomial", "cosine"]
    assert content["properties"]["train"]["properties"]["seed"] == {"$ref": "#/$defs/seed"}
    assert "squad_train" not in content["$defs"] and "squad_train" in schema("")["$defs"]


def test_what_is_printed_can_be_fed_back_and_says_where_from(printed):
    flags = ["--plugins", "inter_first,bert,squad", "--gpu_num_per_node", "3", "--weight_decay", "0.5"]
    text = printed(*flags, "--output_dir", 'a "b"\té', "--stop_at", "3")
    Path("again.yaml").write_text(text, encoding="utf-8")
    first, again = (
        parse(arguments)[0] for arguments in ([*flags, "--output_dir", 'a "b"\té'], ["--config", "again.yaml"])
    )
    assert again.to_dict() == first.to_dict()
    origins = dict(re.findall(r"^  (\w+): .*? +# (.*)$", text, re.M))
    assert {
        name: origins[name] for name in ("nproc_per_node", "weight_decay", "seq_length", "seed", "n_best_size")
    } == {
        "nproc_per_node": "--gpu_num_per_node",
        "weight_decay": "--weight_decay",
        "seq_length": "default of the plugin 'squad'",
        "seed": "default",
        "n_best_size": "default (squad)",
    }
    assert "stop_at" not in text  # of this command alone


def test_mistakes_cost_a_line(capsys):
    assert main(["config", "--schema", "--plugins", PLUGINS, "--seed", "3"]) == 2
    assert main(["config", "--plugins", PLUGINS, "--sead", "3"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "pipeloom: error: config --schema takes --plugins, --strategy and --config, and no '--seed'",
        "pipeloom: error: no option '--sead' (did you mean '--seed'?)",
    ]
