"""What a message says of options that were not given as their own flags."""

from __future__ import annotations

import pytest

from pipeloom.core.commands import cli
from pipeloom.core.config.origins import with_origins
from pipeloom.core.host import plugin_manager

pytestmark = pytest.mark.fast

SELECTED = ("--plugins", "inter_first,bert,wiki_ofrecord")


@pytest.mark.parametrize(
    "message, origins, says",
    [
        ("--a 1 is more than --b 2", {}, "--a 1 is more than --b 2"),
        (
            "--a 1 is more than --b 2",
            {"a": "--config x.yaml", "c": "--set"},
            "--a 1 is more than --b 2 (--a is from --config x.yaml)",
        ),
        (
            "--a 1 is more than --b 2: lower --a",
            {"a": "--set", "b": "--set"},
            "--a 1 is more than --b 2: lower --a (--a and --b are from --set)",
        ),
        ("--a 1 or --a_b", {"a": "--other"}, "--other 1 or --a_b"),
    ],
)
def test_a_message_tells_origins(message, origins, says):
    assert with_origins(message, origins) == says


@pytest.mark.parametrize(
    "arguments, says",
    [
        (
            ["--config", "run.yaml"],
            "--seq_length 128 is longer than --max_position_embeddings 64: raise the latter "
            "(--seq_length and --max_position_embeddings are from --config run.yaml)",
        ),
        (
            ["--config", "run.yaml", "--set", "seq_length=128", "--max_position_embeddings", "40"],
            "--seq_length 128 is longer than --max_position_embeddings 40: raise the latter (--seq_length is from "
            "--set)",
        ),
        (
            ["--gpu_num_per_node", "3", "--nums_split", "4"],
            "--nums_split 4 does not divide the 6 devices of 2 logical nodes x 3 CPU devices: choose one of 1, 2, 3, 6",
        ),
        (
            ["--gpu_num_per_node", "3", "--nnodes", "1", "--node_rank", "2"],
            "--node_rank 2: nodes are numbered 0 to 0 (--nnodes 1)",
        ),
    ],
)
def test_a_command_tells_where_options_come_from(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(plugin_manager, "installed_plugins", dict)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("model: {max_position_embeddings: 64}\nseq_length: 128\n")
    assert cli.main([*SELECTED, *arguments]) == 2
    assert capsys.readouterr().err == f"pipeloom: error: {says}\n"


def test_another_name_of_an_option_is_the_one_to_be_told(monkeypatch):
    config = cli.parse([*SELECTED, "--gpu_num_per_node", "3", "--seed", "1"])[0]
    assert config.origins == {"nproc_per_node": "--gpu_num_per_node"} and config.given == {"nproc_per_node", "seed"}
    assert with_origins("lower --nproc_per_node", config.origins) == "lower --gpu_num_per_node"
