"""The command line: what is accepted, which source wins, and what a wrong word costs (one line, exit code 2)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gpus import A100, H100, V100, machine_with

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands import cli
from pipeloom.core.commands.cli import main, parse
from pipeloom.core.config.config import resolve
from pipeloom.core.contract.options import Options
from pipeloom.core.host import plugin_manager
from pipeloom.core.launch.processes import own_command
from pipeloom.plugins import BUILTIN

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
SELECTED = ("--plugins", "inter_first,bert,wiki_ofrecord")
KNOWN = ("inter_first", "intra_first", "bert", "wiki_ofrecord")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine without GPUs, outside of any job, with these plugins and no others."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(plugin_manager, "installed_plugins", dict)
    for name in set(BUILTIN) - set(KNOWN):
        monkeypatch.delitem(BUILTIN, name)


@pytest.fixture
def fails(capsys):
    """Runs the command line to its end in a usage error; the error's text without its prefix."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (code, out) == (2, "") and err.startswith("pipeloom: error: ") and err.count("\n") == 1, err
        return err[len("pipeloom: error: ") : -1]

    return run


@pytest.fixture
def file(tmp_path):
    """Writes a YAML file; by default one that begins with a selection of plugins."""

    def write(text, plugins="plugins: [inter_first, bert, wiki_ofrecord]\n"):
        (tmp_path / "run.yaml").write_text(plugins + text, encoding="utf-8")
        return tmp_path / "run.yaml"

    return write


def config(*arguments):
    return parse([*SELECTED, *map(str, arguments)])[0]


def values(*arguments):
    return parse([str(argument) for argument in arguments])[0].to_flat_dict()


# --- flags


@pytest.mark.parametrize(
    "arguments",
    [
        ["--grad_acc_steps", "8"],
        ["--grad-acc-steps", "8"],
        ["--grad_acc-steps=8"],
        ["--grad-acc-steps=8"],
        ["--grad_acc_steps", "8.0"],
        ["--set", "grad_acc_steps=8"],
        ["--set=grad-acc-steps=8"],
        ["--set", "parallel.grad_acc_steps = 8"],
    ],
)
def test_a_flag_is_written_with_dashes_or_underscores_with_a_space_or_a_sign(arguments):
    changed = config(*arguments)
    assert changed.grad_acc_steps == 8 and changed.given == {"grad_acc_steps"}
    assert changed.replace(grad_acc_steps=4).to_flat_dict() == config().to_flat_dict()


def test_dashes_in_a_value_are_left_alone():
    assert config("--output-dir=a-b=--c").output_dir == "a-b=--c"
    assert config("--set", "output-dir=a-b=c").output_dir == "a-b=c"


def test_no_flag_is_abbreviated(fails):
    assert fails(*SELECTED, "--train_step", 3) == "no option '--train_step' (did you mean '--train_steps'?)"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gpu_num_per_node", "3"],
        ["--gpu-num-per-node=3"],
        ["--nproc_per_node", "3", "--gpu_num_per_node", "3"],
        ["--set", "gpu_num_per_node=3"],
        ["--set", "cluster.gpu_num_per_node=3", "--nproc_per_node", "3"],
    ],
)
def test_gpu_num_per_node_is_another_name_of_nproc_per_node(arguments):
    assert config(*arguments).nproc_per_node == 3


def test_two_names_with_two_values_is_an_error(fails, file):
    assert fails(*SELECTED, "--nproc_per_node", 2, "--gpu-num-per-node", 3) == (
        "--nproc_per_node 2 and --gpu_num_per_node 3 are the same quantity: give one, or equal values"
    )
    path = file("nproc_per_node: 2\ncluster: {gpu_num_per_node: 3}\n")
    assert fails("--config", path) == (
        f"--config {path}: 'nproc_per_node' is given twice, as 2 and 3 ('gpu_num_per_node' is another name of it)"
    )


@pytest.mark.parametrize(
    "text, value",
    [
        ("true", True),
        ("Yes", True),
        ("on", True),
        ("1", True),
        ("false", False),
        ("NO", False),
        ("off", False),
        ("0", False),
    ],
)
def test_a_truth_value(text, value):
    assert config("--shuffle", text).shuffle is value
    assert config("--set", f"shuffle={text}").shuffle is value


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--shuffle", "maybe"], "--shuffle: 'shuffle' must be true or false, not 'maybe'"),
        (["--nums_split", "two"], "--nums_split: 'nums_split' must be a whole number, not 'two'"),
        (["--nums_split", "2.5"], "--nums_split: 'nums_split' must be a whole number, not '2.5'"),
        (["--nums_split", "inf"], "--nums_split: 'nums_split' must be a whole number, not 'inf'"),
        (["--nums_split", "0"], "--nums_split: 'nums_split' must be at least 1, not 0"),
        (["--master_port", "65536"], "--master_port: 'master_port' must be at most 65535, not 65536"),
        (["--learning_rate", "-0.5"], "--learning_rate: 'learning_rate' must be at least 0, not -0.5"),
        (["--learning_rate=-1e-4"], "--learning_rate: 'learning_rate' must be at least 0, not -1e-4"),
        (["--learning_rate", "fast"], "--learning_rate: 'learning_rate' must be a number, not 'fast'"),
        (["--learning_rate", "nan"], "--learning_rate: 'learning_rate' must be a number, not 'nan'"),
        (["--epochs", "inf"], "--epochs: 'epochs' must be a number, not 'inf'"),
        (["--hidden_dropout_prob", "1"], "--hidden_dropout_prob: 'hidden_dropout_prob' must be at most 0.99, not 1"),
        (["--device", "gpu"], "--device: 'device' must be one of auto, cpu, cuda, not 'gpu'"),
        (["--seed", "none"], "--seed: 'seed' needs a value (a whole number)"),
        (["--seed"], "argument --seed: expected one argument"),
        (["--gpu_num_per_node", "many"], "--gpu_num_per_node: 'nproc_per_node' must be a whole number, not 'many'"),
        (["--set", "train.seed=x"], "--set train.seed=x: 'seed' must be a whole number, not 'x'"),
    ],
)
def test_a_wrong_value(fails, arguments, says):
    assert fails(*SELECTED, *arguments) == says


def test_a_whole_number_keeps_every_digit(file):
    assert config("--seed", 2**63 - 1).seed == 2**63 - 1
    assert parse(["--config", str(file(f"seed: {2**53 + 1}\n"))])[0].seed == 2**53 + 1


def test_none_unsets_what_has_no_default(file):
    assert parse(["--config", str(file("train_steps: 5\n")), "--train_steps", "none"])[0].train_steps is None


def test_defaults_are_those_of_the_machine(monkeypatch):
    small = config()
    machine_with(monkeypatch, A100, V100)
    big = config()
    assert (small.train_global_batch_size, small.num_hidden_layers, small.num_attention_heads, small.learning_rate) == (
        32,
        2,
        2,
        1e-3,
    )
    assert (big.train_global_batch_size, big.num_hidden_layers, big.num_attention_heads, big.learning_rate) == (
        256,
        24,
        16,
        1e-4,
    )


@pytest.mark.parametrize("way", ["flag", "flag=", "--set", "file", "section"])
def test_on_the_cpu_of_a_machine_with_gpus_defaults_are_those_for_a_cpu(monkeypatch, capsys, file, way):
    machine_with(monkeypatch, A100, V100)
    arguments = {
        "flag": ["--device", "cpu"],
        "flag=": ["--device=cpu"],
        "--set": ["--set", "cluster.device=cpu"],
        "file": ["--config", str(file("device: cpu\n"))],
        "section": ["--config", str(file("cluster: {device: cpu}\n"))],
    }[way]
    found = config(*arguments)
    assert (found.train_global_batch_size, found.num_hidden_layers, found.learning_rate, found.device) == (
        32,
        2,
        1e-3,
        "cpu",
    )
    with pytest.raises(SystemExit):
        parse([*SELECTED, *arguments, "--help"])
    assert "layers [2]" in capsys.readouterr().out
    assert config(*arguments, "--device", "cuda").num_hidden_layers == 24 if way in ("file", "section") else True


def test_help_on_a_machine_with_gpus_shows_the_defaults_for_them(monkeypatch, capsys):
    machine_with(monkeypatch, H100)  # also of one that the engine cannot run on: that is said when it is to
    with pytest.raises(SystemExit):
        parse([*SELECTED, "--help"])
    assert "layers [24]" in capsys.readouterr().out


# --- unknown words


@pytest.mark.parametrize(
    "arguments, says",
    [
        (
            ["tarin"],
            "no command 'tarin' (did you mean 'train'?); there are: train, plan, profile, report, parity, prepare, "
            "predict, generate, export, checkpoint, plugins, config, new-plugin, doctor",
        ),
        (
            ["fly", *SELECTED],
            "no command 'fly'; there are: train, plan, profile, report, parity, prepare, predict, generate, export, "
            "checkpoint, plugins, config, new-plugin, doctor",
        ),
        ([*SELECTED, "--grad-acc-stps", "4"], "no option '--grad_acc_stps' (did you mean '--grad_acc_steps'?)"),
        ([*SELECTED, "--gpu_num_per_nod=4"], "no option '--gpu_num_per_nod' (did you mean '--gpu_num_per_node'?)"),
        ([*SELECTED, "--zzz", "4"], "no option '--zzz'"),
        ([*SELECTED, "--plugin", "bert"], "no option '--plugin' (did you mean '--plugins'?)"),
        ([*SELECTED, "stray"], "unexpected argument 'stray'"),
        ([*SELECTED, "-x"], "unexpected argument '-x'"),
        (
            ["--plugins", "interfirst,bert"],
            "no plugin 'interfirst' (did you mean 'inter_first'?); there are: inter_first, intra_first, bert, "
            "wiki_ofrecord",
        ),
        (["--strategy", "zigzag"], "no plugin 'zigzag'; there are: inter_first, intra_first, bert, wiki_ofrecord"),
        ([*SELECTED, "--set", "sed=1"], "--set sed=1: no option 'sed' (did you mean 'seed'?)"),
        ([*SELECTED, "--set", "train.sed=1"], "--set train.sed=1: no option 'train.sed' (did you mean 'train.seed'?)"),
        (
            [*SELECTED, "--set", "model.seed=1"],
            "--set model.seed=1: no option 'model.seed' (did you mean 'train.seed'?)",
        ),
        (
            [*SELECTED, "--set", "trian.seed=1"],
            "--set trian.seed=1: no option 'trian.seed' (did you mean 'train.seed'?)",
        ),
        ([*SELECTED, "--set", "seed"], "--set seed: write --set key=value"),
        (["plugins", "extra"], "unexpected argument 'extra': --help says what 'plugins' takes"),
    ],
)
def test_an_unknown_word_gets_one_line(fails, arguments, says):
    assert fails(*arguments) == says


def test_the_options_of_a_plugin_come_with_it(fails):
    assert fails("--plugins", "inter_first,bert", "--max_predictions", 3) == "no option '--max_predictions'"


# --- selection


@pytest.mark.parametrize(
    "arguments",
    [
        ["--plugins", "bert,wiki_ofrecord", "--strategy", "intra_first"],
        ["--plugins", " bert , wiki_ofrecord,", "--strategy=intra_first"],
        ["train", "--plugins=bert,wiki_ofrecord,intra_first", "--strategy", "intra_first"],
    ],
)
def test_strategy_is_another_way_to_select_a_plugin(arguments):
    chosen = parse(arguments[1:] if arguments[0] == "train" else arguments)[0]
    assert chosen.plugins == ("bert", "wiki_ofrecord", "intra_first")


def test_plugins_may_come_from_the_file(file):
    path = str(file("strategy: intra_first\n", plugins="plugins: bert,wiki_ofrecord\n"))
    assert parse(["--config", path])[0].plugins == ("bert", "wiki_ofrecord", "intra_first")
    assert parse(["--config", path, "--strategy", "inter_first"])[0].plugins == ("bert", "wiki_ofrecord", "inter_first")
    assert parse(["--config", path, "--plugins", "bert"])[0].plugins == ("bert", "intra_first")


@pytest.mark.parametrize(
    "arguments", [[*SELECTED, "--strategy", "intra_first"], ["--plugins", "inter_first,bert,intra_first"]]
)
def test_two_strategies_are_an_error_that_names_both(fails, arguments):
    assert fails(*arguments) == (
        "plugins 'inter_first' and 'intra_first' are both a strategy (pipeloom_place): select only one of them"
    )


@pytest.mark.parametrize(
    "selected, says",
    [
        ("bert,wiki_ofrecord", "no strategy is selected: add one to --plugins (inter_first, intra_first)"),
        ("inter_first,wiki_ofrecord", "no model is selected: add one to --plugins (bert)"),
        ("inter_first,bert", "no dataset is selected: add one to --plugins (wiki_ofrecord)"),
    ],
)
def test_what_is_missing_lists_who_could_give_it(fails, monkeypatch, selected, says):
    assert fails("--plugins", selected) == says
    monkeypatch.setattr(plugin_manager, "installed_plugins", lambda: {"zigzag": []})
    assert fails("--plugins", selected) == says[:-1] + "; installed: zigzag)"


@pytest.mark.parametrize("arguments", [[], ["--plugins", ","], ["--seed", "3"], ["train"]])
def test_without_plugins_there_is_an_example(fails, arguments):
    assert fails(*arguments) == (
        "no plugins are selected: for instance --plugins inter_first,bert,wiki_ofrecord ('plugins' lists them)"
    )


@pytest.mark.parametrize(
    "listed, says",
    [
        ("bertt", "no plugin 'bertt' (did you mean 'bert'?); there are: "),
        ("{bert: 1}", "'plugins' must be names, not {'bert': '1'}"),
        ("[[bert]]", "'plugins' must be names, not [['bert']]"),
        ("[bert, bert]", "plugin 'bert' is selected twice"),
        ("[bert]\nstrategy: [a]", "'strategy' must be a name, not ['a']"),
    ],
)
def test_a_wrong_plugin_in_the_file_names_the_file(fails, file, listed, says):
    path = file("", plugins=f"plugins: {listed}\n")
    assert fails("--config", path).startswith(f"--config {path}: {says}")


def test_an_empty_list_of_plugins_in_the_file_is_none(fails, file):
    assert fails("--config", file("", plugins="plugins:\n")).startswith("no plugins are selected: ")


# --- the file


def test_a_key_stands_in_its_section_or_at_the_top(file):
    path = file(
        "seed: 5\ngrad-acc-steps: 2\ntrain: {log_every: 3, shuffle: no}\nmodel:\n  num_hidden_layers: "
        "7\nparallel:\nlearning_rate: 1e-5\n"
    )
    changed = parse(["--config", str(path)])[0]
    assert changed.given == {"seed", "grad_acc_steps", "log_every", "shuffle", "num_hidden_layers", "learning_rate"}
    assert (changed.seed, changed.grad_acc_steps, changed.log_every, changed.shuffle) == (5, 2, 3, False)
    assert (changed.num_hidden_layers, changed.learning_rate) == (7, 1e-5)


@pytest.mark.parametrize(
    "text, says",
    [
        ("sed: 1", ": no option 'sed' (did you mean 'seed'?)"),
        ("train: {sed: 1}", ": no option 'train.sed' (did you mean 'train.seed'?)"),
        ("model: {seed: 1}", ": no option 'model.seed' (did you mean 'train.seed'?)"),
        (
            "trian: {seed: 1}",
            ": no section 'trian' (did you mean 'train'?); what others refer to may stand under a key "
            "that begins with x-",
        ),
        ("train: {<<: 3}", " line 2: expected a mapping or list of mappings for merging, but found scalar"),
        (
            "train:\n\tseed: 1",
            " line 3: found character '\\t' that cannot start any token: indent with spaces, not tabs",
        ),
        ("seed: 1\n---\nseed: 2", " line 3: a second document begins there: a file has one"),
        (
            "x-a: &a {seed: 1}\ntrain:\n  <<: *a\n  <<: *a",
            " line 5: the key '<<' is given twice (merge several by <<: [*a, *b])",
        ),
        ("x-a: &a {seed: 1}\ntrain: {<<: *a}\nseed: 2", ": 'seed' is given twice, as 1 and 2"),
        ("seed: 0x10", ": 'seed' must be a whole number, not '0x10'"),
        ("train: 3", ": no option 'train' (did you mean 'train_steps'?)"),
        ("7: 3", ": no option '7'"),
        ("seed: 1\nseed: 1", " line 3: the key 'seed' is given twice"),
        ("train: {seed: 1,\n  seed: 2}", " line 3: the key 'seed' is given twice"),
        ("seed: 1\ntrain: {seed: 2}", ": 'seed' is given twice, as 1 and 2"),
        ("seed: x", ": 'seed' must be a whole number, not 'x'"),
        ("seed: true", ": 'seed' must be a whole number, not 'true'"),
        ("seed: [1]", ": 'seed' must be a whole number, not ['1']"),
        ("seed:", ": 'seed' needs a value (a whole number)"),
        ("shuffle: 2", ": 'shuffle' must be true or false, not '2'"),
        ("output_dir: {a: 1}", ": 'output_dir' must be text, not {'a': '1'}"),
        ("seed: 1: 2", " line 2: mapping values are not allowed here"),
        ("output_dir: !!timestamp 2020-13-45", ": not valid YAML"),
        ("? [a, b]\n: 3", " line 2: a key must be text"),
        ("seed: " + "[" * 500, ": not valid YAML"),
        ("seed: \x07", ": not valid YAML"),
        ("shuffle: !!bool maybe", ": not valid YAML"),
        ('"a\\nb\\e": 1', ": no option 'a\\nb\\x1b'"),
        ('output_dir: "a\\0"', ": 'output_dir' must be text, not 'a\\x00'"),
        ('output_dir: "\\ud800"', ": 'output_dir' must be text, not '\\ud800'"),
        ("output_dir: !!binary aGk=", ": 'output_dir' must be text, not b'hi'"),
        ("seed: " + "9" * 300, ": 'seed' must be at most 9223372036854775808, not " + "9" * 57 + "..."),
        ("x: &x [1]\ny: &y [*x, *x]\nshuffle: [*y, *y]", ": no option 'x'"),
        ("shuffle: [[[[[1]]]], 2]", ": 'shuffle' must be true or false, not [[[[...]]], '2']"),
        (
            "seed: !!python/name:os.system",
            " line 2: could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.system'",
        ),
    ],
)
def test_a_wrong_file_gets_one_line(fails, file, text, says):
    path = file(text + "\n")
    assert fails("--config", path) == f"--config {path}{says}"


def test_plain_values_are_what_they_are_on_the_command_line(file):
    path = file(
        "seed: 010\nlearning_rate: 1e-4\ntrain_steps: 1_000\nshuffle: No\nasync_save: on\nsave_final_weights: "
        "'yes'\nlog_every: 1e1\n"
        "adam_eps: .5\noutput_dir: 1:30\nrecompute: 010\nbest_metric: no\nresume: ~\nepochs:\n"
    )
    read = parse(["--config", str(path)])[0]
    wanted = {
        "seed": 10,
        "learning_rate": 1e-4,
        "train_steps": 1000,
        "shuffle": False,
        "async_save": True,
        "save_final_weights": True,
        "log_every": 10,
        "adam_eps": 0.5,
        "output_dir": "1:30",
        "recompute": "010",
        "best_metric": "no",
        "resume": None,
        "epochs": None,
    }
    assert {name: getattr(read, name) for name in wanted} == wanted
    assert parse([*SELECTED, "--output_dir", "1:30", "--seed", "010"])[0].seed == read.seed


def test_merge_keys_bring_what_is_not_written(file):
    path = file(
        "x-small: &small {num_hidden_layers: 1, hidden_size: 32}\nx-wide: &wide\n  <<: *small\n  hidden_size: "
        "128\n"
        "model:\n  <<: [*wide, {num_attention_heads: 4, hidden_size: 16}]\n  intermediate_size: 64\n"
    )
    read = parse(["--config", str(path)])[0]
    sizes = (read.num_hidden_layers, read.hidden_size, read.num_attention_heads, read.intermediate_size)
    assert sizes == (1, 128, 4, 64)
    assert read.given == {"num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"}


def test_merge_keys_that_double_are_read_at_once(file):
    levels = "".join(f"x-{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
    path = file(f"x-0: &a0 {{seed: 3, log_every: 2}}\n{levels}train:\n  <<: *a11\n")
    assert parse(["--config", str(path)])[0].seed == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "run.yaml"
    path.write_bytes("plugins: inter_first,bert,wiki_ofrecord\r\nseed: 5\r\noutput_dir: grüße\r\n".encode(encoding))
    read = parse(["--config", str(path)])[0]
    assert (read.seed, read.output_dir) == (5, "grüße")


def test_the_home_directory_is_found_behind_an_equals_sign(file, tmp_path, monkeypatch, fails):
    file("seed: 5\n").rename(tmp_path / "mine.yaml")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse(["--config=~/mine.yaml"])[0].seed == 5
    assert fails("--config=~no_such_user/x.yaml").startswith("~no_such_user: there is no such user")


def test_a_file_that_is_none_gets_one_line(fails, tmp_path):
    def write(data):
        (tmp_path / "x").write_bytes(data)
        return tmp_path / "x"

    assert fails("--config", tmp_path / "absent.yaml") == f"--config {tmp_path}/absent.yaml: No such file or directory"
    assert fails("--config", tmp_path) == f"--config {tmp_path}: Is a directory"
    assert fails("--config", write(b"- a\n- b\n")) == f"--config {tmp_path}/x: must be 'key: value' lines, not a list"
    assert fails("--config", write(b"hello")) == f"--config {tmp_path}/x: must be 'key: value' lines, not a str"
    assert fails("--config", write(b"\xff\xfe\xff")) == f"--config {tmp_path}/x: not a text file"
    assert parse([*SELECTED, "--config", str(write(b""))])[0].to_flat_dict() == config().to_flat_dict()


# --- which source wins


def test_flags_beat_set_beats_the_file_beats_defaults(file):
    path = file("train: {seed: 2, log_every: 2, train_steps: 2}\n")
    changed = parse(
        [
            "--config",
            str(path),
            "--set",
            "train.log_every=3",
            "--set",
            "train_steps=3",
            "--train-steps",
            "3",
            "--epochs=4",
        ]
    )[0]
    assert (changed.grad_acc_steps, changed.seed, changed.log_every, changed.train_steps, changed.epochs) == (
        4,
        2,
        3,
        3,
        4.0,
    )
    assert parse(["--config", str(path), "--seed", "4"])[0].seed == 4


def test_of_two_ways_to_say_one_thing_the_stronger_source_counts(file):
    path = file("train_steps: 40\nwarmup_steps: 3\n")
    read = parse(["--config", str(path), "--epochs", "2", "--warmup_ratio", "0.5"])[0]
    assert (read.train_steps, read.epochs, read.warmup_steps, read.warmup_ratio) == (None, 2.0, None, 0.5)
    assert read.given == {"epochs", "warmup_ratio"}
    path = file("epochs: 2\nwarmup_ratio: 0.5\n")
    read = parse(["--config", str(path), "--set", "warmup_steps=3", "--train_steps", "40"])[0]
    assert (read.train_steps, read.epochs, read.warmup_steps, read.warmup_ratio) == (40, None, 3, None)
    # A resumed run: what the checkpoint has in the one way, and the user gives in the other.
    options = Options()
    options.add("steps_of_it", int, help="")
    options.add("share_of_it", float, help="", replaces="steps_of_it")
    for given, base, found in (
        ({"share_of_it": 0.5}, {"steps_of_it": 3, "share_of_it": None}, (None, 0.5)),
        ({"share_of_it": None}, {"steps_of_it": 3, "share_of_it": None}, (3, None)),
        ({}, {"steps_of_it": 3}, (3, None)),
    ):
        read = resolve(options, (), False, ("flags", given), base=base)
        assert (read.steps_of_it, read.share_of_it) == found


def test_a_flag_and_set_that_disagree_are_an_error(fails):
    assert (
        fails(*SELECTED, "--seed", 1, "--set", "train.seed=2") == "'seed' is given twice, as --seed 1 and --set seed=2"
    )
    assert fails(*SELECTED, "--gpu_num_per_node", 1, "--set", "nproc_per_node=2") == (
        "'nproc_per_node' is given twice, as --nproc_per_node 1 and --set nproc_per_node=2"
    )
    assert fails(*SELECTED, "--set", "seed=1", "--set", "train.seed=2") == (
        "--set train.seed=2: 'seed' is given twice, as 1 and 2"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [
            "--seed",
            2**62 + 1,
            "--learning_rate",
            "1e-5",
            "--shuffle",
            "no",
            "--train_steps",
            "7",
            "--gpu_num_per_node",
            "3",
        ],
        *(
            ["--output_dir=" + text]
            for text in (
                "yes",
                "007",
                "1e3",
                "2020-01-01",
                "a: b",
                "#x",
                "ü ß",
                "[a]",
                "'",
                "x\ty ",
                "~",
                "&a",
                "0x1F",
                "",
            )
        ),
    ],
)
def test_the_configuration_that_is_written_reads_back_the_same(tmp_path, arguments):
    before = config(*arguments)
    (tmp_path / "config.yaml").write_text(before.to_yaml(), encoding="utf-8")
    after = parse(["--config", str(tmp_path / "config.yaml")])[0]
    assert after.plugins == before.plugins
    assert after.to_flat_dict() == before.to_flat_dict()
    assert list(map(type, after.to_flat_dict().values())) == list(map(type, before.to_flat_dict().values()))


def test_a_configuration_is_read_only():
    chosen = config()
    with pytest.raises(AttributeError, match="read-only"):
        chosen.seed = 3
    with pytest.raises(AttributeError, match=r"no option 'sed' \(did you mean 'seed'\?\)"):
        assert chosen.sed
    with pytest.raises(AttributeError, match="no option 'sed'"):
        chosen.replace(sed=3)


# --- help, and real processes


def test_help_lists_every_option_and_tells_the_two_ranks_apart(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    for name in [*config().to_flat_dict(), "gpu_num_per_node", "plugins", "strategy", "config", "set"]:
        assert f"--{name} " in out
    assert "--node_rank numbers the machines, the local rank numbers the devices inside one" in out
    assert "Counted separately from the local rank" in out and "rank = node_rank * nproc_per_node + local rank" in out
    assert "{adamw,lamb,sgd}" in out and "[1234]" in out


@pytest.mark.parametrize("arguments", [["--plugins", "bert", "-h"], ["train", "--help"]])
def test_help_never_fails_for_want_of_a_plugin(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0 and "--num_hidden_layers" in capsys.readouterr().out


def test_a_bare_help_takes_one_plugin_of_each_kind():
    assert cli.one_of_each_kind() == ["inter_first", "bert", "wiki_ofrecord"]


def test_plugins_lists_what_each_provides(capsys):
    assert main(["plugins"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for name, kind in zip(KNOWN, ("strategy", "strategy", "model", "dataset")):
        assert lines[name].split()[1] == kind
    assert "partitioner" in lines["by_parameters"] and "optimizer" in lines["optimization"]


@pytest.mark.parametrize("argument", ["--help", "plugins"])
def test_help_and_plugins_answer_within_a_second_without_the_engine(argument):
    code = (
        "import sys\nfrom pipeloom.__main__ import run\n"
        f"try: code = run([{argument!r}])\nexcept SystemExit as end: code = end.code\n"
        "assert code == 0 and 'oneflow' not in sys.modules\n"
        "import time; print(time.process_time())"
    )  # not by the clock: other processes may have the cores
    seconds = []
    while not seconds or (min(seconds) >= 1.0 and len(seconds) < 3):
        done = run_python("-c", code)
        assert done.returncode == 0, done.stderr
        seconds.append(float(done.stdout.split()[-1]))
    assert min(seconds) < 1.0


def run_python(*command, **more):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        **more,
    )


def test_entry_py_ends_with_the_code_and_the_line(tmp_path):
    done = run_python(ROOT / "entry.py", *SELECTED, "--sed", "3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pipeloom: error: no option '--sed' (did you mean '--seed'?)\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["--version"], ["-V"], ["train", "--version"], ["predict", "--version"], [*SELECTED, "-V"]]
)
def test_the_version(capsys, arguments):
    assert main(arguments) == 0 and capsys.readouterr().out == f"pipeloom {pipeloom.__version__}\n"


def test_a_module_is_started_as_one(tmp_path, monkeypatch):
    done = run_python("-m", "pipeloom", *SELECTED, "--sed", "3", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "pipeloom: error: no option '--sed' (did you mean '--seed'?)\n")
    # And its ranks with it: they must find the plugins that it finds.
    monkeypatch.setattr(sys, "argv", [str(ROOT / "pipeloom" / "__main__.py"), "--seed", "3"])
    assert own_command() == [sys.executable, "-m", "pipeloom"]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "entry.py"), "--seed", "3"])
    assert own_command() == [sys.executable, str(ROOT / "entry.py")]


def test_a_reader_that_goes_away_costs_no_traceback():
    done = subprocess.run(
        f"{sys.executable} {ROOT / 'entry.py'} plugins | true", shell=True, stderr=subprocess.PIPE, timeout=30
    )
    assert b"Traceback" not in done.stderr


def test_parse_raises_the_error_that_main_prints():
    with pytest.raises(UsageError, match="no option '--sed'") as raised:
        config("--sed", 3)
    assert raised.value.exit_code == 2
