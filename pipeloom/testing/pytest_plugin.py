"""``pytest --pipeloom NAME``: check a plugin of pipeloom. Without that option this changes nothing in a run of pytest.

It is imported in every such run, so it imports nothing but what is always there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeloom.testing.check import ENGINE_MARK

#: The file whose tests are collected.
SUITE = Path(__file__).with_name("suite.py")


def pytest_addoption(parser: Any) -> None:
    parser.addoption(
        "--pipeloom",
        action="append",
        metavar="NAME",
        help="check that a plugin of pipeloom keeps to its contract, by name, module.path or ./file.py; further "
        f"plugins and flags of its run may follow: 'NAME,bert,wiki_ofrecord --seq_length 64'. -m 'not {ENGINE_MARK}': "
        "without training",
    )


def pytest_configure(config: Any) -> None:
    config.addinivalue_line("markers", f"{ENGINE_MARK}: a check of pipeloom.testing that starts training runs")
    if not config.getoption("pipeloom"):
        return
    others = config.args if config.option.file_or_dir else []  # otherwise what pytest would collect by itself
    config.args[:] = [*others, str(SUITE)]
