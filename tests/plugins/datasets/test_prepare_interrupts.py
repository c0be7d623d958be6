"""``prepare pretraining`` that is stopped or killed: what comes out in the end is the same, and nothing half made is
taken for whole.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time

from jobs import ROOT, environment
from preparations import arguments, digest

from pipeloom.core.commands.cli import main
from pipeloom.core.launch.control.signals import Signals
from pipeloom.plugins.datasets.wiki_ofrecord import visits
from pipeloom.plugins.libraries.corpus import sentences
from pipeloom.plugins.libraries.preparation import journal


def test_it_is_the_same_however_often_it_was_interrupted(texts, tmp_path, monkeypatch):
    """Stopped at the 26th step of each try, 21 of which read the documents; each commit is on the disk at once."""
    monkeypatch.setattr(journal, "_KEEP_SECONDS", 0)
    monkeypatch.setattr(sentences, "_CHUNK_CHARACTERS", 5000)
    monkeypatch.setattr(visits, "BLOCK_TOKENS", 1500)
    assert main(arguments(texts, tmp_path / "whole")) == 0
    check, calls = Signals.check, [0]

    def stop_at_26(self):
        calls[0] += 1
        self.count, self.number = int(calls[0] >= 26), signal.SIGTERM
        check(self)

    monkeypatch.setattr(Signals, "check", stop_at_26)
    codes = []
    while not codes or codes[-1] != 0:
        calls[0] = 0
        codes.append(main(arguments(texts, tmp_path / "out")))
        assert (tmp_path / "out").exists() == (codes[-1] == 0) and len(codes) < 50
    assert len(codes) >= 5 and set(codes[:-1]) == {128 + signal.SIGTERM}
    assert digest(tmp_path / "out") == digest(tmp_path / "whole")


def test_a_crash_at_any_write_of_the_end_is_mended(made, texts, tmp_path, monkeypatch):
    """At each crossing of the last steps, from meta.json on, the process "dies"; the next try ends with the same
    folder.
    """

    class Died(BaseException):
        pass

    points, first = 0, None
    while True:
        seen = []

        def crossing(point, seen=seen, last=points + 1):
            if seen or "meta.json" in point:
                seen.append(point)
            if len(seen) == last:
                raise Died(point)

        monkeypatch.setattr("pipeloom.core.base.files.crossing", crossing)
        out = tmp_path / str(points)
        try:
            main(arguments(texts, out, "--dupe_factor", "1"))
        except Died:
            monkeypatch.setattr("pipeloom.core.base.files.crossing", lambda point: None)
            assert main(arguments(texts, out, "--dupe_factor", "1")) == 0
        whole = digest(out)
        assert whole == (first or whole)
        first = whole
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
        if len(seen) <= points:
            break
        points += 1
    assert points > 10


def test_workers_do_not_matter_and_a_kill_does_no_harm(made, texts, tmp_path):
    command = [sys.executable, str(ROOT / "entry.py"), *arguments(texts, tmp_path / "out")]
    command[command.index("--workers") + 1] = "2"
    rng = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
        time.sleep(rng.uniform(0.3, 1.5))
        process.kill()
        process.wait()
        if (tmp_path / "out").exists():  # it was done when the kill came: whole, then
            assert digest(tmp_path / "out") == digest(made)
            shutil.rmtree(tmp_path / "out")
    result = subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100
    )
    assert result.returncode == 0, result.stdout
    assert digest(tmp_path / "out") == digest(made)


def test_ctrl_c_is_one_line_and_the_workers_are_silent(texts, tmp_path):
    command = [sys.executable, str(ROOT / "entry.py"), *arguments(texts, tmp_path / "out", "--dupe_factor", "400")]
    command[command.index("--workers") + 1] = "1"
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / ".out.preparing" / "part-0").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and said == "stopped by SIGINT; the same command goes on from here\n"
