"""The network card of a rank: --interface, and what the engine is told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import NO_LAYERS, ROOT

from benchmarks.lab import namespaces
from benchmarks.lab.job import TwoNodeJob
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import ADDRESS
from pipeloom.core.commands.cli import parse
from pipeloom.core.commands.train import _master, _reached_by
from pipeloom.core.launch.network import address_environment, card_address, cards, check_address
from pipeloom.core.planning.planner import make_plan

SELECTED = ["--plugins", "inter_first,bert,wiki_ofrecord"]
SECOND = ("10.78.0.1", "10.78.0.2")


def master(*flags):
    config, plugins = parse([*SELECTED, "--nnodes", "2", *flags])
    return _master(make_plan(config, plugins))


@pytest.mark.fast
def test_cards_have_addresses():
    assert cards()["lo"] == "127.0.0.1" == card_address("lo")
    assert address_environment(None) == {}
    assert address_environment("lo") == {ADDRESS: "127.0.0.1", "NCCL_SOCKET_IFNAME": "=lo"}


@pytest.mark.fast
def test_an_unknown_card_is_one_line_with_those_there_are(monkeypatch):
    monkeypatch.setattr(
        "pipeloom.core.launch.network.cards", lambda: {"lo": "127.0.0.1", "eth1": "10.0.0.7", "ib0": None}
    )
    there = "; there are: lo 127.0.0.1, eth1 10.0.0.7, ib0 (no address)"
    with pytest.raises(UsageError) as error:
        master("--node_rank", "1", "--master_addr", "10.0.0.1", "--interface", "eht1")
    assert str(error.value) == "--interface eht1: no network card 'eht1' here (did you mean 'eth1'?)" + there
    with pytest.raises(UsageError) as error:
        card_address("ib0")
    assert str(error.value) == "--interface ib0: the card 'ib0' has no IPv4 address" + there


@pytest.mark.fast
def test_on_node_0_the_card_says_where_rank_0_is():
    assert master("--node_rank", "0", "--interface", "lo") == ("127.0.0.1", 29500)
    assert master("--node_rank", "0", "--interface", "lo", "--master_addr", "10.0.0.1")[0] == "10.0.0.1"
    with pytest.raises(UsageError, match="2 nodes need --master_addr"):
        master("--node_rank", "1", "--interface", "lo")


@pytest.mark.fast
@pytest.mark.parametrize(
    "name, meant, there, address",
    [
        ("node0", ["127.0.1.1"], {"lo": "127.0.0.1", "eth0": "10.0.0.7", "ib0": None}, "10.0.0.7"),
        ("node0", ["10.0.0.9"], {"eth0": "10.0.0.7"}, None),
        ("node0", ["127.0.1.1", "10.0.0.7"], {"eth0": "10.0.0.7"}, None),
        ("node0", None, {"eth0": "10.0.0.7"}, None),
        ("127.0.0.1", ["127.0.0.1"], {"eth0": "10.0.0.7"}, None),
        ("localhost", ["127.0.0.1"], {"eth0": "10.0.0.7"}, None),
        ("node0", ["127.0.1.1"], {"lo": "127.0.0.1", "eth0": "10.0.0.7", "eth1": "10.1.0.7"}, UsageError),
        ("node0", ["127.0.1.1"], {"lo": "127.0.0.1"}, UsageError),
    ],
)
def test_a_name_of_node_0_that_means_loopback_there(monkeypatch, name, meant, there, address):
    def look_up(*_):
        if meant is None:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, 0, 0, "", (number, 0)) for number in meant]

    monkeypatch.setattr("pipeloom.core.launch.network.cards", lambda: there)
    monkeypatch.setattr("pipeloom.core.launch.network.socket.getaddrinfo", look_up)
    if address is UsageError:
        with pytest.raises(
            UsageError,
            match=r"^--master_addr node0 is 127.0.1.1 on this machine, where no other finds it: .*--interface",
        ):
            master("--node_rank", "0", "--master_addr", name)
        assert address_environment("eth0" if "eth0" in there else "lo", name)[ADDRESS] in there.values()
        return
    assert address_environment(None, name) == ({ADDRESS: address} if address else {})
    assert master("--node_rank", "0", "--master_addr", name)[0] == name
    assert _reached_by(make_plan(*parse([*SELECTED, "--nnodes", "2"])), name) == {}  # logical nodes: all here


@pytest.mark.fast
@pytest.mark.parametrize(
    "address, what",
    [
        *(
            (address, "is an IPv6 address")
            for address in ("::1", "[::1]", "fe80::1%eth0", "[2001:db8::7]:29500", "::ffff:10.0.0.1")
        ),
        ("six", "has IPv6 addresses alone (2001:db8::7)"),
    ],
)
def test_the_engine_knows_no_ipv6(monkeypatch, address, what):
    def look_up(name, port, family):
        if family == socket.AF_INET:
            raise socket.gaierror(socket.EAI_NODATA, "no address")
        return [(family, None, None, "", ("2001:db8::7", 0, 0, 0))]

    monkeypatch.setattr("pipeloom.core.launch.network.socket.getaddrinfo", look_up)
    with pytest.raises(UsageError) as raised:
        check_address(address)
    assert str(raised.value) == (
        f"--master_addr {address} {what}, and OneFlow 0.9.0 connects over IPv4 alone: give an IPv4 address of node 0"
    )


@pytest.mark.fast
def test_a_port_is_an_option_of_its_own():
    with pytest.raises(
        UsageError,
        match="^MASTER_ADDR 10.0.0.1:29500: the port is an option of its own: MASTER_ADDR "
        "10.0.0.1 --master_port 29500$",
    ):
        check_address("10.0.0.1:29500", "MASTER_ADDR")
    for fine in ("10.0.0.1", "127.0.0.1", "localhost", "no.such.host.invalid"):
        check_address(fine)


@pytest.mark.fast
def test_a_card_for_nodes_that_are_all_here_is_refused():
    with pytest.raises(UsageError, match="^--interface lo without --node_rank: all nodes run on this host"):
        master("--interface", "lo")


@pytest.mark.fast
@pytest.mark.parametrize(
    "variables, host",
    [
        ({ADDRESS: "10.0.0.7", "WORLD_SIZE": "2"}, "10.0.0.7"),
        ({"WORLD_SIZE": "2"}, ""),
        ({ADDRESS: "10.0.0.7", "WORLD_SIZE": "1"}, ""),
    ],
)
def test_the_engine_is_given_the_address_before_it_connects(tmp_path, monkeypatch, variables, host):
    """With a stand-in of the engine that is made as the engine's Python side is."""
    framework = tmp_path / "oneflow" / "framework"
    framework.mkdir(parents=True)
    (framework / "__init__.py").write_text("")
    (framework / "env_util.py").write_text(
        "class Conf: host = ''\nclass Proto: ctrl_bootstrap_conf = Conf()\ndefault = Proto()\n"
        "def CompleteEnvProto(proto): proto.completed = True\n"
        "def GetEnv():\n    CompleteEnvProto(default)\n    assert default.completed\n    "
        "print(repr(default.ctrl_bootstrap_conf.host))\n"
    )
    (tmp_path / "oneflow" / "__init__.py").write_text(
        "import oneflow.framework.env_util as env_util\nenv_util.GetEnv()\n"
    )
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    code = (
        "import os, sys; before = list(sys.meta_path)\nfrom pipeloom.core.launch.network import forget_proxies\n"
        "from pipeloom.plugins.executors.oneflow.address import announce\n"
        "announce(); forget_proxies()\n"
        "import oneflow; assert sys.meta_path == before and 'http_proxy' not in os.environ"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", **variables},
    )
    assert (done.returncode, done.stdout) == (0, repr(host) + "\n"), done.stderr


def test_the_traffic_between_nodes_takes_the_card(tmp_path):
    """Two links between two nodes: the ranks meet over the first, and everything else takes the second, as --interface
    says.
    """
    reason = namespaces.why_not()
    if reason:
        pytest.skip(reason)
    run = namespaces._run
    flags = (
        f"--plugins inter_first,{NO_LAYERS},wiki_ofrecord --num_attention_heads 1 --nums_split 1 "
        f"--train_global_batch_size 8 "
        "--train_steps 2 --interface fast0"
    ).split()
    with namespaces.Link() as link:
        first, second = link.namespaces
        run("ip", "-n", first, "link", "add", "fast0", "type", "veth", "peer", "name", "fast0", "netns", second)
        for name, address in zip(link.namespaces, SECOND):
            run("ip", "-n", name, "addr", "add", f"{address}/30", "dev", "fast0")
            run("ip", "-n", name, "link", "set", "fast0", "up")
        with TwoNodeJob(link, flags, Path(tmp_path), nproc_per_node=1) as job:
            job.wait(120)
        sent = {}
        for card in ("link0", "fast0"):
            answer = json.loads(run("ip", "-n", first, "-s", "-j", "link", "show", "dev", card))
            sent[card] = answer[0]["stats64"]["tx"]["bytes"]
    # Gradients of 0.7 M parameters, twice; on the first card only the ranks' greeting.
    assert sent["fast0"] > 2e6 and sent["link0"] < 50_000, sent
