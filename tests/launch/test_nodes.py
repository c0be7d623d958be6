"""Several launchers, as on several machines, with ranks of plain Python: they find each other, watch each other, end
together.
"""

import re
import signal
import socket
import time

import pytest
from launch_site import Site, runs, wait_for

from pipeloom.core.launch.control.nodes import NodesSpec, misfit, twice
from pipeloom.core.launch.launcher import free_port

TRAIN = {"all": "train"}


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.port = free_port()
    yield site
    site.close()


def start(site, *nodes, plan=TRAIN, **more):
    """The launchers of ``nodes``, at once."""
    return [site.node(node, site.port, plan, **more) for node in nodes]


def ends(processes, seconds=40):
    """(exit code, what it said beside what every run says) of each launcher."""
    said = [process.communicate(timeout=seconds)[0] for process in processes]
    usual = r"pipeloom: (waiting up to|nodes watch each other).*\n"
    return [(process.returncode, re.sub(usual, "", text)) for process, text in zip(processes, said)]


def training(site, plan=(), **more):
    processes = start(site, 0, 1, plan={**TRAIN, "pace": {"0": 0.02, "1": 0.003}, **dict(plan)}, **more)
    wait_for(lambda: site.number("begun_0") > 1 and site.number("begun_1") > 5, 15)
    return processes


def test_two_nodes_run_a_job(site):
    processes = start(site, 1, 0, plan={}, per_node=2)
    said = [process.communicate(timeout=20)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    watch = "pipeloom: nodes watch each other: a node that is silent for 15 s ends the job\n"
    assert said == [
        f"pipeloom: waiting up to 10 s for node 0 at 127.0.0.1:{site.port + 1}\n" + watch,
        f"pipeloom: waiting up to 10 s for the other nodes on port {site.port + 1}\n" + watch,
    ]
    assert [site.env(rank)["LOCAL_RANK"] for rank in range(4)] == ["0", "1", "0", "1"]
    assert all(site.env(rank)["listening"] for rank in range(4))


def test_garbage_on_the_port_disturbs_nobody(site):
    first = start(site, 0, plan={"0": "train", "1": "train", "steps": 60})
    wait_for(lambda: not _free(site.port + 1))
    strangers = []
    for text in (b"GET / HTTP/1.1\r\n\r\n", b'{"pipeloom": 1, "node": []}\n', b"\x16\x03\x01" * 50, b""):
        strangers.append(socket.create_connection(("127.0.0.1", site.port + 1)))
        strangers[-1].sendall(text)
    second = start(site, 1, plan={"0": "train", "1": "train", "steps": 60})
    assert ends(first + second) == [(0, ""), (0, "")]
    for stranger in strangers:
        stranger.close()


def _free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


HELLO = NodesSpec(1, 2, 4, "10.0.0.1", 29501, identity={"code": "aa", "data": "bb"}).hello()


@pytest.mark.parametrize(
    "change, line",
    [
        ({}, None),
        ({"pipeloom": "9.9"}, "node 1 runs pipeloom 9.9, node 0 runs "),
        (
            {"nnodes": 3, "node": 2},
            "node 2 was started with --nnodes 3, node 0 with --nnodes 2: give all nodes the same",
        ),
        (
            {"nproc_per_node": 2},
            "node 1 was started with --nproc_per_node 2, node 0 with --nproc_per_node 4: give all nodes the same",
        ),
        ({"node": 2, "host": "b"}, "a launcher on b was started with --node_rank 2: nodes are numbered 0 to 1"),
        (
            {"identity": {"code": "aa", "data": "cc"}},
            "node 1 has other data than node 0 (data: cc, on node 0 bb): make them the same on all nodes",
        ),
        (
            {"identity": {"code": "ab"}},
            "node 1 has other code and data than node 0 (code: ab, on node 0 aa; data: none, on node 0 bb)",
        ),
    ],
    ids=["fits", "version", "nnodes", "nproc", "rank", "identity", "identities"],
)
def test_what_does_not_fit_is_one_line(change, line):
    found = misfit({**HELLO, "node": 0}, {**HELLO, **change})
    assert found is None if line is None else found.startswith(line) and "\n" not in found


def test_two_launchers_of_one_number():
    assert twice(1, "a", "a").startswith("two launchers were started with --node_rank 1 (both on a)")


@pytest.mark.parametrize(
    "first, second, line",
    [
        (
            dict(node=0),
            dict(node=1, nodes={"identity": {"data": "x"}}),
            "node 1 has other data than node 0 (data: x, on node 0 none)",
        ),
        (dict(node=0), dict(node=1, nnodes=3), "node 1 was started with --nnodes 3, node 0 with --nnodes 2"),
        (dict(node=0), dict(node=0), "two launchers were started with --node_rank 0 (both on "),
    ],
    ids=["identity", "nnodes", "two nodes 0"],
)
def test_a_misfit_is_told_on_every_node(site, first, second, line):
    processes = [process for more in (first, second) for process in start(site, more.pop("node"), **more)]
    for code, said in ends(processes):
        assert code == 2 and said.startswith(f"pipeloom: error: {line}") and said.count("\n") == 1, said
    assert site.pids() == []


def test_a_number_given_twice_is_told_on_every_node(site):
    processes = start(site, 1, 1)
    for process in processes:
        assert process.stdout.readline().startswith("pipeloom: waiting up to 10 s for node 0")
    for code, said in ends(processes + start(site, 0)):
        assert code == 2 and said.startswith(
            "pipeloom: error: two launchers were started with --node_rank 1 (both on"
        ), said
    assert site.pids() == []


def test_a_launcher_too_many_does_not_disturb_a_running_job(site):
    processes = training(site)
    ((code, said),) = ends(start(site, 1))
    assert code == 2 and "two launchers were started with --node_rank 1" in said
    processes[0].terminate()
    assert [code for code, _ in ends(processes)] == [143, 143]


def test_a_node_that_does_not_come_and_a_master_that_does_not_answer(site):
    (code, said), (other, too) = ends(start(site, 0, 2, nnodes=3, nodes={"node_timeout": 1}))
    assert code == other == 2
    assert said == too and said.startswith("pipeloom: error: node 1 of 3 did not come within 1 s")
    ((code, said),) = ends(start(site, 1, nodes={"node_timeout": 0.5}))
    assert code == 2 and said.startswith(
        f"pipeloom: error: node 0 does not answer at 127.0.0.1:{site.port + 1} within 0.5 s"
    )
    ((code, said),) = ends(start(site, 1, nodes={"address": "no-such-host.invalid"}))
    assert code == 2 and "master address 'no-such-host.invalid' is unknown here" in said


def test_a_port_that_belongs_to_something_else(site):
    with socket.create_server(("127.0.0.1", site.port + 1)):
        (code, said), (other, too) = ends(start(site, 0, 1, nodes={"node_timeout": 1}))
    assert code == other == 2
    assert said.startswith(
        f"pipeloom: error: port {site.port + 1}, where the launchers of the nodes meet (--master_port + 1), is taken"
    )
    assert f"what listens at 127.0.0.1:{site.port + 1} is no launcher of node 0" in too


def test_a_rank_that_fails_is_told_on_both_nodes(site):
    one, two = ends(training(site, {"steps": 900, "fault": {"rank": "1", "step": 9, "how": "raise"}}))
    assert one[0] == two[0] == 1
    log = site.folder / "logs" / "rank_1.log"
    line = f"rank 1 failed: exit code 1; log: {log}; its last lines:\n  | Traceback"
    assert one[1].startswith(f"pipeloom: error: node 1: {line}") and two[1].startswith(f"pipeloom: error: {line}")
    assert one[1].endswith("  | RuntimeError: the cup fell\n") and two[1].endswith("  | RuntimeError: the cup fell\n")
    assert not any(map(runs, site.pids()))


@pytest.mark.parametrize("node", [0, 1])
def test_a_signal_to_one_launcher_stops_all_ranks_after_the_same_step(site, node):
    processes = training(site)
    processes[node].terminate()
    assert ends(processes) == [(143, "pipeloom: SIGTERM: finishing the step and saving (once more ends at once)\n")] * 2
    assert site.number("last_0") == site.number("last_1") > 5


def test_two_signals_to_another_node_end_the_job_at_once(site):
    processes = training(site, {"hang at the end": "0"})
    processes[1].send_signal(signal.SIGINT)
    wait_for(lambda: site.number("last_1"))
    time.sleep(0.2)  # two that come at once are one
    processes[1].send_signal(signal.SIGINT)
    (code, said), (other, _) = ends(processes)
    assert code == other == 130 and "node 1: SIGINT, twice: all ranks are killed" in said
    assert not any(map(runs, site.pids()))


@pytest.mark.parametrize("killed", [0, 1])
def test_a_launcher_that_is_killed_ends_the_job_on_the_other_node(site, killed):
    processes = training(site)
    processes[killed].kill()
    assert ends(processes)[1 - killed] == (
        1,
        f"pipeloom: error: node {killed} is gone: its launcher has closed the connection\n",
    )
    wait_for(lambda: not any(map(runs, site.pids())), 2)


def test_a_node_that_falls_silent_ends_the_job(site):
    processes = training(site, nodes={"heartbeat_timeout": 2})
    processes[1].send_signal(signal.SIGSTOP)
    assert ends(processes[:1]) == [(1, "pipeloom: error: node 1 is gone: its launcher has been silent for 2 s\n")]
    processes[1].send_signal(signal.SIGCONT)
    assert ends(processes[1:])[0][0] == 1
    assert not any(map(runs, site.pids()))


def test_a_hang_on_another_node_is_found_and_the_job_restarted_on_all(site):
    plan = {"steps": 40, "fault": {"rank": "1", "step": 20, "how": "stop"}}
    one, two = ends(training(site, plan, max_restarts=1, step_timeout=3, end_timeout=60, resume="/x/step_20"))
    assert one[0] == two[0] == 0, (one, two)
    for said in (one[1], two[1]):
        assert (
            "rank 1 is behind: in step 20, making the step, stopped by a signal (state T); stacks: " in said
            and "restart 1 of 1: from step_20\n" in said
        )
    assert site.starts(0) == site.starts(1) == [(site.port, ""), (site.port, "/x/step_20")]
    assert site.number("last_0") == site.number("last_1") == 40


@pytest.mark.parametrize("killed", [0, 1])
def test_after_a_node_has_gone_the_job_goes_on_when_it_comes_back(site, killed):
    processes = training(site, max_restarts=2)
    processes[killed].kill()
    wait_for(lambda: not any(map(runs, site.pids())))
    (back,) = start(site, killed, plan={**TRAIN, "steps": 30}, max_restarts=2)
    wait_for(lambda: len(site.starts(0)) == len(site.starts(1)) == 2, 15)
    rest = [processes[1 - killed], back]
    rest[0].terminate()
    (code, said), (other, _) = ends(rest)
    assert code == other == 143, said
    assert f"node {killed} is gone" in said and (killed == 0 or "restart 1 of 2: from the beginning" in said)


def test_a_node_that_does_not_come_back(site):
    processes = training(site, max_restarts=2, nodes={"node_timeout": 1})
    processes[1].kill()
    (code, said), _ = ends(processes)
    assert code == 1 and "pipeloom: error: node 1 of 2 did not come back within 1 s" in said
