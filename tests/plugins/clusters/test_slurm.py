"""What a launcher takes from Slurm, and when it takes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import NO_LAYERS, environment

from benchmarks.lab import namespaces
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import outside_environment
from pipeloom.core.commands import cli
from pipeloom.plugins.clusters.slurm import expand_hosts, options_from_slurm, port_of_job

ROOT = Path(__file__).resolve().parents[3]


fast = pytest.mark.fast

#: As Slurm sets it for the second of three nodes of a step.
STEP = {
    "SLURM_PROCID": "1",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_NNODES": "3",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_JOB_NODELIST": "gpu[07-09]",
    "SLURM_JOB_ID": "123456",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_TASKS_PER_NODE": "1(x3)",
    "SLURM_STEP_TASKS_PER_NODE": "1(x3)",
}
TAKEN = {"nnodes": 3, "node_rank": 1, "master_addr": "gpu07", "master_port": 26912, "nproc_per_node": 4}
SELECTED = ["--plugins", "inter_first,bert,wiki_ofrecord"]


@fast
@pytest.mark.parametrize(
    "text, hosts",
    [
        ("node[001-003,7],gpu2", ["node001", "node002", "node003", "node7", "gpu2"]),
        ("gpu2", ["gpu2"]),
        ("a-1,b.example.org", ["a-1", "b.example.org"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("n[08-11]x", ["n08x", "n09x", "n10x", "n11x"]),
        ("r[1-2]n[1,03]", ["r1n1", "r1n03", "r2n1", "r2n03"]),
        ("n[5]", ["n5"]),
    ],
)
def test_a_host_list(text, hosts):
    assert expand_hosts(text) == hosts


@fast
@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "n[1-",
        "n]1[",
        "n[]",
        "n[3-1]",
        "n[a-b]",
        "n[1,]",
        "a,,b",
        "n[[1]]",
        "n[1-999999999]",
        "n[1-999]m[1-999]",
        "a b",
        "n[-1]",
        "n[1--2]",
    ],
)
def test_no_host_list_is_one_line(text):
    with pytest.raises(UsageError, match="cannot be read: give --master_addr"):
        expand_hosts(text)


@fast
def test_what_was_not_given_is_taken():
    assert options_from_slurm(STEP, {}) == TAKEN
    assert options_from_slurm(STEP, {"master_addr": "10.0.0.1", "nproc_per_node": 2, "node_rank": None}) == {
        "nnodes": 3,
        "node_rank": 1,
        "master_port": 26912,
    }
    without_gpus = {name: value for name, value in STEP.items() if name != "SLURM_GPUS_ON_NODE"}
    assert "nproc_per_node" not in options_from_slurm(without_gpus, {}) and "nproc_per_node" not in options_from_slurm(
        STEP, {"device": "cpu"}
    )


@fast
def test_a_step_of_fewer_nodes_than_its_job():
    step = {**STEP, "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[08-09]"}
    taken = options_from_slurm(step, {})
    assert (taken["nnodes"], taken["master_addr"]) == (2, "gpu08")


@fast
@pytest.mark.parametrize(
    "change, given",
    [
        ({"SLURM_PROCID": None}, {}),
        ({"SLURM_NODEID": None}, {}),
        ({"SLURM_NNODES": "1"}, {}),
        ({}, {"nnodes": 1}),
        ({"SLURM_NNODES": None, "SLURM_JOB_NUM_NODES": None}, {}),
    ],
)
def test_nothing_is_taken_outside_of_a_step_of_several_nodes(change, given):
    environment = {name: value for name, value in {**STEP, **change}.items() if value is not None}
    assert options_from_slurm(environment, given) == {}


@fast
@pytest.mark.parametrize(
    "change", [{"SLURM_STEP_TASKS_PER_NODE": "2(x3)"}, {"SLURM_LOCALID": "1"}, {"SLURM_STEP_TASKS_PER_NODE": "1,2"}]
)
def test_several_launchers_on_a_node_are_one_line(change):
    with pytest.raises(UsageError, match="srun started 2 launchers on a node.*--ntasks-per-node=1"):
        options_from_slurm({**STEP, **change}, {})


@fast
def test_a_variable_that_is_no_number():
    with pytest.raises(UsageError, match="^SLURM_NODEID=one in the environment is not a number"):
        options_from_slurm({**STEP, "SLURM_NODEID": "one"}, {})


@fast
def test_ports_of_jobs_are_even_and_in_the_range():
    ports = {port_of_job(job) for job in range(100000, 106000)}
    assert len(ports) == 6000 and min(ports) == 20000 and max(ports) == 31998 and not any(port % 2 for port in ports)


@pytest.fixture
def step(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)


def parsed(arguments, capsys):
    """The configuration that training gets, and what is printed before."""
    config, _ = cli.parse([*SELECTED, *arguments], os.environ)
    return config, capsys.readouterr().out


@fast
def test_the_options_of_a_run_come_from_slurm_and_a_line_says_so(step, capsys):
    config, said = parsed([], capsys)
    assert {name: getattr(config, name) for name in TAKEN} == TAKEN
    assert (
        said
        == "pipeloom: from Slurm: --nnodes 3 --node_rank 1 --master_addr gpu07 --master_port 26912 --nproc_per_node 4\n"
    )


@fast
def test_file_and_flags_are_stronger(step, capsys, tmp_path):
    (tmp_path / "run.yaml").write_text("cluster: {nproc_per_node: 2, master_addr: null}\n")
    config, said = parsed(["--config", str(tmp_path / "run.yaml"), "--master_port", "4000"], capsys)
    assert (config.nproc_per_node, config.master_port, config.master_addr) == (2, 4000, "gpu07")
    assert said == "pipeloom: from Slurm: --nnodes 3 --node_rank 1 --master_addr gpu07\n"


PBS = """
import pipeloom
from pipeloom.core.contract.cluster_options import ClusterOptions

@pipeloom.hookimpl
def pipeloom_cluster_options(environment, given):
    return {answer}
"""


@fast
@pytest.mark.parametrize(
    "answer, says",
    [
        ("None", "from Slurm: --nnodes 3"),
        ("ClusterOptions('PBS', {'nnodes': '5', 'no_option': 1})", "from PBS: --nnodes 5\n"),
        (
            "{'nnodes': 5}",
            "it answers {'nnodes': 5}, not a ClusterOptions: return ClusterOptions(source, values), or None",
        ),
        ("ClusterOptions('PBS', [5])", "its values are [5], not a dict by the names of options"),
        (
            "ClusterOptions('PBS', {'nnodes': 'few'})",
            "hook pipeloom_cluster_options: 'nnodes' must be a whole number, not 'few'",
        ),
    ],
)
def test_another_batch_system_is_a_plugin(step, capsys, tmp_path, answer, says):
    file = tmp_path / "pbs.py"
    file.write_text(PBS.replace("{answer}", answer))
    try:
        config, said = parsed(["--plugins", f"{SELECTED[1]},{file}"], capsys)
    except UsageError as error:
        said = str(error)
        assert "pbs.py' (file), hook pipeloom_cluster_options" in said
    assert says in said


@fast
def test_a_rank_of_another_launcher_takes_nothing(step, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "5")
    config, said = parsed([], capsys)
    assert (config.node_rank, config.nnodes, said) == (None, None, "")


@fast
def test_the_place_of_a_node_is_not_kept_for_the_next_job(step, capsys, tmp_path):
    config, _ = parsed([], capsys)
    kept = config.replace(nnodes=3).to_dict()["cluster"]
    assert kept["nnodes"] == 3 and kept["node_rank"] is kept["master_addr"] is kept["master_port"] is None
    given, _ = parsed(["--node_rank", "0"], capsys)
    assert given.to_dict()["cluster"]["node_rank"] == 0


@fast
def test_other_commands_and_runs_of_their_own_take_nothing(step):
    assert cli.parse(SELECTED)[0].node_rank is None
    assert not any(name.startswith("SLURM_") for name in outside_environment(os.environ))


# --- run_ppl.sh, with stand-ins for the installation and for Python


@pytest.fixture
def script(tmp_path):
    """A copy of run_ppl.sh whose Python says what it was given."""
    shutil.copy(ROOT / "run_ppl.sh", tmp_path)
    for name, text in (("scripts/setup_env.sh", "exit 0"), (".venv/bin/python", 'shift; echo "$@"')):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(*arguments, **environment):
        clean = {"PATH": os.environ["PATH"]}
        done = subprocess.run(
            [str(tmp_path / "run_ppl.sh"), *arguments],
            env={**clean, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stdout.strip() or done.stderr.strip()

    return run


PLUGINS = "--plugins inter_first,bert,wiki_ofrecord"


@fast
@pytest.mark.parametrize(
    "arguments, environment, says",
    [
        ([], {}, PLUGINS),
        (["--seed", "3"], {"PLUGINS": "a"}, "--plugins a --seed 3"),
        (["1"], {"NNODES": "2", "MASTER_ADDR": "h"}, f"{PLUGINS} --node_rank 1 --nnodes 2 --master_addr h"),
        ([], {**STEP, "NPROC_PER_NODE": "2"}, f"{PLUGINS} --nproc_per_node 2"),
        (
            ["--seed", "3"],
            {**STEP, "NNODES": "3", "MASTER_ADDR": "h", "MASTER_PORT": "7"},
            f"{PLUGINS} --nnodes 3 --master_addr h --master_port 7 --seed 3",
        ),
        (["2"], {**STEP, "NNODES": "3", "MASTER_ADDR": "h"}, f"{PLUGINS} --node_rank 2 --nnodes 3 --master_addr h"),
    ],
)
def test_run_ppl_hands_on_what_it_was_given(script, arguments, environment, says):
    assert script(*arguments, **environment) == (0, says)


@fast
def test_run_ppl_still_wants_the_number_of_a_node_without_slurm(script):
    code, said = script(NNODES="2", MASTER_ADDR="h", SLURM_JOB_ID="7")
    assert code == 2 and "which node this is" in said


def test_two_launchers_of_an_srun_step_train_together(tmp_path):
    """Two nodes of which Slurm says all: nothing of the cluster stands on the command line."""
    reason = namespaces.why_not()
    if reason:
        pytest.skip(reason)
    flags = (
        f"--plugins inter_first,{NO_LAYERS},wiki_ofrecord --num_attention_heads 1 --nums_split 1 --grad_acc_steps 1 "
        f"--train_global_batch_size 8 "
        "--train_steps 2 --log_every 1 --nproc_per_node 1"
    ).split()
    with namespaces.Link() as link:
        nodes = []
        for node in (0, 1):
            step = {
                **STEP,
                "SLURM_PROCID": str(node),
                "SLURM_NODEID": str(node),
                "SLURM_NNODES": "2",
                "SLURM_JOB_NODELIST": "10.77.0.[1-2]",
            }
            command = [sys.executable, str(ROOT / "entry.py"), *flags, "--output_dir", str(tmp_path / f"node_{node}")]
            nodes.append(
                subprocess.Popen(
                    link.command(node, command),
                    env={**environment(), **step},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        try:
            said = [node.communicate(timeout=120)[0] for node in nodes]
        finally:
            for node in nodes:
                node.kill()
                node.wait()
    assert [node.returncode for node in nodes] == [0, 0], said
    assert (
        "pipeloom: from Slurm: --nnodes 2 --node_rank 0 --master_addr 10.77.0.1 --master_port 26912\n" in said[0]
        and "2/2 | loss" in said[0]
    )
    assert said[1].startswith(
        "pipeloom: from Slurm: --nnodes 2 --node_rank 1 --master_addr 10.77.0.1 --master_port 26912\n"
    )
    kept = (tmp_path / "node_0" / "config.yaml").read_text()
    assert "node_rank: null" in kept and "nnodes: 2" in kept and "master_addr: null" in kept
