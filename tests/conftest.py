"""What all tests share: one cache for the embedded sample, out of the user's own."""

import os
import signal

import pytest

from pipeloom.core.base.variables import RANK_VARIABLES
from pipeloom.core.host.builtin import use_builtin
from pipeloom.plugins import TABLE

use_builtin(TABLE)


@pytest.fixture(scope="session", autouse=True)
def sample_cache(tmp_path_factory):
    """``$PIPELOOM_CACHE`` of the session, subprocesses included: a sample that two tests need is built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELOOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield os.environ["PIPELOOM_CACHE"]


@pytest.fixture(autouse=True)
def no_rank(monkeypatch):
    """Importing the engine leaves the variables of a rank behind: a command in this process would take itself for
    one.
    """
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


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
