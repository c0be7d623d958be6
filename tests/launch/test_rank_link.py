"""The rank's end of the line to its launcher, and the line itself, without a launcher."""

import json
import os
import signal
import socket
import threading
import time

import pytest

from pipeloom.core.base.variables import CONTROL_FD, outside_environment
from pipeloom.core.launch.control.channel import Channel
from pipeloom.core.launch.control.rank_link import RankLink
from pipeloom.core.launch.control.rank_states import RankStates
from pipeloom.core.launch.control.signals import OF_A_RANK

pytestmark = pytest.mark.fast


@pytest.fixture
def line(monkeypatch):
    """The launcher's channel, and the link of a rank that began in this environment."""
    handlers = {number: signal.getsignal(number) for number in (*OF_A_RANK, signal.SIGINT)}
    ours, theirs = socket.socketpair()
    monkeypatch.setenv(CONTROL_FD, str(theirs.detach()))
    channel, link = Channel(ours), RankLink.from_environment()
    yield channel, link
    channel.close()
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def heard(channel, count=1, seconds=5.0):
    messages, deadline = [], time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        messages += channel.receive()
        time.sleep(0.002)
    return messages


def test_without_a_launcher_it_does_nothing(monkeypatch):
    for value in (None, "", "987", "x"):
        monkeypatch.setenv(CONTROL_FD, value) if value is not None else monkeypatch.delenv(CONTROL_FD, raising=False)
        link = RankLink.from_environment()
        assert link.begin_step(1) and link.stop_after is None and not link.connected
        link.busy("nothing", 3)


def test_a_last_step_known_from_the_start():
    link = RankLink(None, stop_at=2)
    assert [link.begin_step(step) for step in (1, 2, 3)] == [True, True, False] and link.stop_after == 2


def test_steps_and_long_phases_are_told_and_children_get_no_link(line):
    channel, link = line
    assert link.begin_step(7)
    link.busy("saving", 30.5)
    assert heard(channel, 2) == [{"event": "step", "step": 7}, {"event": "busy", "what": "saving", "seconds": 30.5}]
    assert CONTROL_FD not in os.environ and CONTROL_FD not in outside_environment({CONTROL_FD: "3"})


def test_it_holds_from_the_answer_to_the_agreement(line):
    channel, link = line
    assert link.begin_step(4)
    channel.send({"hold": True})
    assert heard(channel, 2)[1] == {"event": "answer", "step": 4}
    made = []

    def rank():
        made.extend(step for step in (5, 6, 7) if link.begin_step(step))

    thread = threading.Thread(target=rank)
    thread.start()
    time.sleep(0.1)
    assert made == [] and channel.receive() == []
    channel.send({"proceed_to": 5})
    assert heard(channel) == [{"event": "step", "step": 5}]
    channel.send({"stop_after": 6})
    thread.join(5)
    assert made == [5, 6] and link.stop_after == 6
    assert heard(channel) == [{"event": "step", "step": 6}]


def test_a_lost_launcher_does_not_hold_a_rank(line):
    channel, link = line
    assert link.begin_step(1)
    channel.send({"hold": True})
    heard(channel, 2)
    threading.Timer(0.1, channel.close).start()
    assert link.begin_step(2) and not link.connected


@pytest.mark.parametrize("number", sorted(OF_A_RANK))
def test_a_signal_is_handed_on_and_ctrl_c_left_to_the_launcher(line, number):
    channel, link = line
    link.begin_step(1)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), number)
    assert heard(channel, 2) == [{"event": "step", "step": 1}, {"event": "signal", "number": number}]


def test_a_launcher_that_sleeps_does_not_stop_a_rank(line):
    channel, link = line
    for step in range(1, 20001):  # far more than the socket's buffer takes
        link.begin_step(step)
    steps = [message["step"] for message in channel.receive()]
    assert steps == list(range(1, len(steps) + 1)) and 100 < len(steps) < 20000


def test_a_channel_gives_out_what_came_before_the_end_and_takes_no_garbage():
    for last in (b"", b"GET / HTTP/1.1\r\n\r\n", b"[1]\n{}\n", b"x" * (1 << 20) + b"xx"):
        ours, theirs = socket.socketpair()
        channel = Channel(ours)

        def send(theirs=theirs, last=last):
            theirs.sendall(b'{"a": 1}\n{"b"' + b": 2}\n" + last)
            theirs.close()

        sender = threading.Thread(target=send)
        sender.start()
        messages = heard(channel, 2)
        deadline = time.monotonic() + 5
        while not channel.closed and time.monotonic() < deadline:
            messages += channel.receive()
        channel.close()
        sender.join(5)
        assert channel.closed and messages == [{"a": 1}, {"b": 2}], last
        channel.send({"to": "nobody"})


def test_the_last_message_arrives_though_the_other_side_has_sent_more():
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = Channel(socket.create_connection(server.getsockname()))
        other = Channel(server.accept()[0])
    one.send({"unread": True})
    other.send({"over": "x" * 900000})
    closing = threading.Thread(target=other.finish, args=(5.0,))
    closing.start()
    time.sleep(0.2)  # all of it is in the sending kernel, and more than the receiving one takes
    assert len(heard(one)[0]["over"]) == 900000
    one.close()
    closing.join(5)
    assert not closing.is_alive()


def test_hang_line_names_who_is_behind_and_who_is_stopped():
    progress = RankStates(3, 2)
    assert not progress.hangs(5, 1e9)
    progress.all_started(100)
    assert not progress.hangs(5, 104) and not progress.hangs(0, 1e9) and progress.hangs(5, 106)
    assert progress.behind() == "ranks 0, 1, 2 are behind: before the first step"
    for rank, step in ((0, 3), (1, 4), (2, 4)):
        progress.note({"event": "step", "rank": rank, "step": step}, 110)
    progress.note({"event": "busy", "rank": 1, "what": "saving", "seconds": 60}, 110)
    assert not progress.hangs(5, 169) and progress.hangs(5, 171)
    assert progress.behind() == "rank 0 is behind: in step 3"
    progress.note({"event": "step", "rank": 0, "step": 4}, 110)  # now all are in one step, and what they do counts
    phases = (
        ("waiting for the loss", False, ""),
        ("waiting for the loss", False, ""),
        ("reading data", True, "a.py:12 read"),
    )
    for rank, (what, alone, where) in enumerate(phases):
        event = {"event": "stacks", "what": what, "alone": alone, "where": where, "seconds": 9.0, "fault": ""}
        progress.note({**event, "rank": rank, "path": f"/logs/stacks_of_rank_{rank}.txt"}, 111)
    assert progress.behind() == "rank 2 is behind: in step 4, reading data, in a.py:12 read"
    assert progress.where_stacks_are() == "; stacks: /logs/stacks_of_rank_*.txt"
    assert progress.phases()[0] == "rank 0: in step 4, waiting for the loss, for 9 s"
    progress.note({"event": "asleep", "rank": 1, "asleep": True}, 111)
    assert progress.behind() == "rank 1 is behind: in step 4, waiting for the loss, stopped by a signal (state T)"
    progress.note({"event": "step", "rank": 1, "step": 5}, 120)  # the long phase is over
    assert not progress.hangs(5, 124) and progress.hangs(5, 126)
    assert json.loads(json.dumps(progress.reached())) == 5
