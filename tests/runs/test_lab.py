"""The laboratory of two network namespaces, and with it law 2: what crosses the link is what the placement says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from jobs import NO_LAYERS, ROOT

from benchmarks.lab import namespaces
from benchmarks.lab.measure import bytes_per_step
from benchmarks.lab.namespaces import LabError, Link, why_not
from benchmarks.lab.theory import crossing, plan_of

TINY = (
    "--num_hidden_layers 1 --num_attention_heads 1 --seq_length 128 --nums_split 2 --train_global_batch_size 16 "
    "--grad_acc_steps 2"
).split()


@pytest.fixture
def lab():
    reason = why_not()
    if reason:
        pytest.skip(reason)


def existing():
    return subprocess.run(["ip", "netns", "list"], stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize(
    "strategy, carried", [("inter_first", "vectors"), ("inter_first", "table"), ("intra_first", "auto")]
)
def test_what_crosses_the_link_is_what_the_placement_says(lab, strategy, carried):
    plugins, flags = f"{strategy},{NO_LAYERS},wiki_ofrecord", [*TINY, "--tied_transfer", carried]
    theory = crossing(plan_of(flags, plugins))
    hidden, table = 16 * 128 * 64 * 4, 4096 * 64 * 4
    if strategy == "inter_first":
        assert theory.hidden == {(0, 1): hidden, (1, 0): hidden} and not theory.gradients
        assert set(theory.shared.values()) == {hidden if carried == "vectors" else table} and len(theory.shared) == 2
    else:
        assert not theory.hidden and not theory.shared and theory.gradients
    with Link() as link:
        measured = bytes_per_step(link, flags, plugins, pauses=(2, 4), limit=60)
    for value, expected in ((measured.bytes_0_to_1, theory.total(0, 1)), (measured.bytes_1_to_0, theory.total(1, 0))):
        # At least the payload itself: less would mean that the halts missed some of it.
        assert expected <= value <= 1.1 * expected


@pytest.mark.parametrize(
    "flags",
    [
        ["--tensor_parallel", "2", "--num_attention_heads", "2"],
        ["--shard", "optimizer"],
        ["--shard", "parameters"],
        ["--shard", "vocabulary"],
    ],
)
def test_tensor_parallelism_and_sharding_send_what_theory_says(lab, flags):
    """Two ranks, the link between them; two micro-batches."""
    # Layers use their parameters in other ways than the rest does, which --shard optimizer does not depend on.
    model = NO_LAYERS if {"optimizer", "vocabulary"} & {*flags} else "bert"
    flags, plugins = [*TINY, "--nums_split", "1", *flags], f"inter_first,{model},wiki_ofrecord"
    theory = crossing(plan_of(flags, plugins, nproc_per_node=1))
    with Link() as link:
        measured = bytes_per_step(link, flags, plugins, nproc_per_node=1, pauses=(2, 4), limit=60)
    for value, expected in ((measured.bytes_0_to_1, theory.total(0, 1)), (measured.bytes_1_to_0, theory.total(1, 0))):
        assert 0.99 * expected <= value <= 1.1 * expected


@pytest.mark.fast
def test_what_theory_counts_by_hand():
    plan = plan_of([*TINY, "--tie_embeddings", "false"], "intra_first,bert,wiki_ofrecord")
    assert plan.placement.stages == ((0, 2), (1, 3))
    # Two groups of two ranks, one of each node: both stages' parameters go once each way.
    both = 4 * plan.model.size
    assert crossing(plan).gradients == {(0, 1): both, (1, 0): both}
    # A group of four ranks: 3/2 of the parameters along each edge of the ring, of which two cross.
    whole = plan_of([*TINY, "--nums_split", "1"], "inter_first,bert,wiki_ofrecord")
    assert crossing(whole).gradients == {(0, 1): 6 * whole.model.size, (1, 0): 6 * whole.model.size}
    assert not crossing(whole).hidden and not crossing(whole).shared


def test_nothing_is_left_of_a_laboratory(lab):
    with pytest.raises(ZeroDivisionError):
        with Link() as link:
            assert all(name in existing() for name in link.namespaces)
            sleeper = subprocess.Popen(link.command(1, ["sleep", "60"]))
            raise ZeroDivisionError
    assert sleeper.wait(5) == -9 and not any(name in existing() for name in link.namespaces)
    # One whose maker was killed is removed by the next.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; from benchmarks.lab.namespaces import Link\n"
            "l = Link(); l.__enter__(); print(*l.namespaces, flush=True); os.kill(os.getpid(), 9)",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    left = done.stdout.split()
    assert len(left) == 2 and all(name in existing() for name in left)
    with Link():
        assert not any(name in existing() for name in left)


def test_the_rate_of_the_link(lab):
    reason = why_not(rate=True)
    if reason:
        pytest.skip(reason)
    with Link(rate="8mbit") as link:
        receiver = subprocess.Popen(
            link.command(
                1,
                [
                    sys.executable,
                    "-c",
                    (
                        "import socket, time; s = socket.create_server(('10.77.0.2', 20000)); c = s.accept()[0]; "
                        "c.recv(1); t = time.time()\n"
                        "while c.recv(1 << 16): pass\n"
                        "print(time.time() - t)"
                    ),
                ],
            ),
            stdout=subprocess.PIPE,
            text=True,
        )
        sender = link.command(
            0,
            [
                sys.executable,
                "-c",
                (
                    "import socket, time\n"
                    "while True:\n"
                    "    try: c = socket.create_connection(('10.77.0.2', 20000)); break\n"
                    "    except OSError: time.sleep(0.05)\n"
                    "c.sendall(bytes(1250000))"
                ),
            ],
        )
        before = link.counters()
        subprocess.run(sender, timeout=20, check=True)
        seconds = float(receiver.communicate(timeout=20)[0])
        moved = link.settled(quiet=0.3) - before
    # 10 Mbit at 8 Mbit/s, less the bucket of 256 kB.
    assert 0.9 < seconds < 3 and 1250000 < moved.bytes_0_to_1 < 1.1 * 1250000


@pytest.mark.fast
def test_why_not_says_why(monkeypatch):
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    assert why_not() == "network namespaces need root"
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 0)
    monkeypatch.setattr(namespaces.shutil, "which", lambda command: None)
    assert why_not() == "no command 'ip' (package iproute2)"

    def refused(*command):
        raise LabError("ip netns add: Operation not permitted")

    monkeypatch.setattr(namespaces.shutil, "which", lambda command: None if command == "tc" else "/sbin/ip")
    monkeypatch.setattr(namespaces, "_run", refused)
    monkeypatch.setattr(namespaces, "remove_leftovers", lambda: None)
    monkeypatch.setattr(namespaces, "_remove", lambda name: None)
    assert why_not() == "network namespaces are refused here: ip netns add: Operation not permitted"
    assert why_not(rate=True) == "no command 'tc' (package iproute2)"
