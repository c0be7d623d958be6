"""What all tests share: one cache for the embedded sample, out of the user's own."""

import os
import signal
import sys

import pytest

from pipeloom.core.base.variables import RANK_VARIABLES
from pipeloom.core.host.builtin import use_builtin
from pipeloom.plugins import TABLE

use_builtin(TABLE)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Spread the whole suite, or the whole of ``-m fast``, over two processes, file by file (``-n 0``: one)."""
    option = config.option
    if (
        getattr(option, "numprocesses", 0) is None  # pytest-xdist is there, and -n is not
        and not hasattr(config, "workerinput")
        and config.args_source is config.ArgsSource.TESTPATHS
        and option.markexpr in ("", "fast")
        and not (option.keyword or option.usepdb or option.collectonly)
        and len(os.sched_getaffinity(0)) > 1
    ):
        option.numprocesses, option.dist, option.loadscopereorder = 2, "loadfile", False


def pytest_collection_modifyitems(items):
    """Put files whose tests start engines and launchers first: what is short comes last, and both processes end
    together.
    """
    long = {item.path for item in items if item.get_closest_marker("fast") is None}
    items.sort(key=lambda item: item.path not in long)


def pytest_make_parametrize_id(val, argname):
    """Bytes are no names: compressed ones hold the time, and every process must find tests of the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def sample_cache(tmp_path_factory):
    """``$PIPELOOM_CACHE`` of the session, its processes included: a sample that two tests need is built once."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELOOM_CACHE", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"))
        yield os.environ["PIPELOOM_CACHE"]


@pytest.fixture(autouse=True)
def no_rank(monkeypatch):
    """Importing the engine leaves the variables of a rank behind: a command in this process would take itself for
    one.
    """
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def no_modules_of_tests(tmp_path_factory):
    """A plugin that a test has written into a folder of its own is not the next test's of the same name."""
    before, base = set(sys.modules), str(tmp_path_factory.getbasetemp())
    yield
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(base):
            del sys.modules[name]


# A test run in the background of a shell ignores Ctrl-C, and so would the launchers that it starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Inputs of ``prepare pretraining``."""
    from preparations import write_texts

    return write_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="session")
def made(texts, tmp_path_factory):
    """What it makes of them."""
    from preparations import arguments

    from pipeloom.core.commands.cli import main

    out = tmp_path_factory.mktemp("made") / "out"
    assert main(arguments(texts, out)) == 0
    return out
