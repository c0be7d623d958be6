"""The inside of a rank: how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "body, code, error",
    [
        ("pass", 0, ""),
        ("return 3", 3, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit('so it is')", 1, "so it is\n"),
        ("raise KeyboardInterrupt", 130, ""),
        ("os.kill(os.getpid(), signal.SIGUSR1); time.sleep(9)", 138, ""),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", 143, ""),
        ("raise RunError('no more paper')", 1, "pipeloom: error: no more paper\n"),
    ],
)
def test_run_rank_ends_the_process_even_when_its_exit_would_hang(body, code, error):
    # The exit handler stands for OneFlow's, which waits for the other ranks.
    script = (
        "import atexit, os, signal, sys, time\nfrom pipeloom.core.base.errors import RunError\n"
        "from pipeloom.core.launch.rank import run_rank\n"
        f"def main():\n    print('out'); {body}\n"
        "if sys.argv[1:]: atexit.register(time.sleep, 60)\nassert run_rank(main) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script] + ["hang"] * (code != 0),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=10,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", error)


CLOSED = """
import os, sys, time
from pipeloom.core.base.output import survive_closed_output
survive_closed_output()
print("ready", flush=True)
os.read(0, 1)
for number in range(5):
    print("x" * 9000, flush=number % 2 == 0)
    print("y" * 9000, file=sys.stderr)
open(sys.argv[1], "w").write("went on")
print("at the end")
"""


def test_a_process_outlives_those_who_read_it(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", CLOSED, str(tmp_path / "done")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    process.stderr.close()
    process.stdin.write(b"x")
    process.stdin.close()
    assert process.wait(timeout=20) == 0 and (tmp_path / "done").read_text() == "went on"


def test_a_rank_that_cannot_say_why_ends_all_the_same(tmp_path):
    script = (
        "import os; from pipeloom.core.launch.rank import run_rank; os.close(2)\n"
        "def main(): raise RuntimeError('x')\nrun_rank(main)\nos._exit(55)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", script], env=env, timeout=20).returncode == 1


OPENED = """
import os, subprocess, sys
from pipeloom.core.base.output import open_closed_streams
open_closed_streams()
file = open(sys.argv[1], "w")
print("into the void"); print("and this", file=sys.stderr); assert sys.stdin.read() == ""
subprocess.run([sys.executable, "-c", "import sys; print(1); print(2, file=sys.stderr)"], check=True)
file.write(f"{file.fileno() > 2}")
"""


def test_what_is_printed_never_ends_in_a_file_that_got_the_number_of_a_closed_stream(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", OPENED, str(tmp_path / "file")]
    done = subprocess.run(command, env=env)
    assert done.returncode == 0 and (tmp_path / "file").read_text() == "True"


@pytest.mark.parametrize("closed, code, said", [(">&-", 0, (0, 0)), ("2>&-", 0, (1, 0)), ("<&- >&- 2>&-", 0, (0, 0))])
def test_a_command_with_closed_streams_does_its_work(closed, code, said):
    command = f"exec '{sys.executable}' '{ROOT / 'entry.py'}' plugins {closed}"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    assert (done.returncode, (len(done.stdout) > 0, len(done.stderr) > 0)) == (code, said)
