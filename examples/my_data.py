"""Commands and kinds of data in one file. It adds a command, something to prepare, and what is known of its records:

    python entry.py prepare --plugins ./examples/my_data.py weather --output weather --days 100
    python entry.py prepare validate weather --plugins ./examples/my_data.py
    python entry.py prepare inspect weather --plugins ./examples/my_data.py
    python entry.py warmest weather --plugins ./examples/my_data.py

Of an installed package none needs ``--plugins``.
"""

import argparse
from pathlib import Path

import numpy as np

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.files import is_vacant, whole_folder
from pipeloom.core.contract.arguments import Parser
from pipeloom.core.contract.commands import Command, PrepareKind
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.record_kinds import RecordChecks, RecordKind, RecordRule
from pipeloom.plugins.libraries.ofrecord.index import find_parts
from pipeloom.plugins.libraries.ofrecord.records import decode, messages, write_part

HOURS = 24
SKIES = ("clear", "cloudy", "rain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--days", type=int, default=365, metavar="N", help="how many days [365]")


def prepare(options: argparse.Namespace) -> int:
    if options.days < 1:
        raise UsageError(f"--days must be at least 1, not {options.days}")
    if not is_vacant(Path(options.output)):
        raise UsageError(f"--output {options.output} is there already: name a new folder")
    chance = np.random.default_rng(options.days)
    noon = chance.uniform(-5, 30, options.days)
    hours = np.cos((np.arange(HOURS) - 14) * 2 * np.pi / HOURS)  # it is warmest at two
    with whole_folder(Path(options.output)) as scratch:
        days = [
            {
                "degrees": (mean + 6 * hours).astype(np.float32),
                "sky": chance.integers(0, len(SKIES), 1).astype(np.int32),
                "span": np.array([mean - 6, mean + 6], np.float32),
            }
            for mean in noon
        ]
        write_part(scratch / "part-0", days)
    print(f"{options.output}: {options.days} days")
    return 0


class Skies:
    """Counts the days of each sky."""

    def __init__(self):
        self.counts = np.zeros(len(SKIES), int)

    def add(self, batch):
        self.counts += np.bincount(batch["sky"][:, 0], minlength=len(SKIES))

    def phrases(self, records):
        return {"skies": ", ".join(f"{count} {sky}" for sky, count in zip(SKIES, self.counts))}


def inside_span(batch):
    low, high = batch["span"][:, :1], batch["span"][:, 1:]
    return ((batch["degrees"] >= low - 0.01) & (batch["degrees"] <= high + 0.01)).all(1)


def checks(record, folder):
    fields = [
        Field("degrees", (HOURS,), "float32"),
        Field("sky", (1,), "int32", low=0, high=len(SKIES)),
        Field("span", (2,), "float32"),
    ]
    rule = RecordRule(("degrees", "span"), inside_span, "degrees leave the day's span")
    return RecordChecks(fields, rules=[rule], statistics=Skies())


def lines(record, tokenizer):
    if "degrees" not in record or "sky" not in record:
        return None
    degrees = record["degrees"]
    return [f"  {SKIES[record['sky'][0]]}, {degrees.min():.1f} to {degrees.max():.1f} degrees"]


def warmest(arguments):
    parser = Parser(prog="entry.py warmest", description="the warmest day of a folder of 'prepare weather'")
    parser.add_argument("folder", metavar="DIR")
    folder = Path(parser.parse_args(arguments).folder)
    days = [decode(message)["degrees"].max() for part in find_parts(folder) for message in messages(part)]
    print(f"day {int(np.argmax(days))}: {max(days):.1f} degrees")
    return 0


@pipeloom.hookimpl
def pipeloom_commands():
    return [Command("warmest", "the warmest day of a folder of 'prepare weather'", warmest)]


@pipeloom.hookimpl
def pipeloom_prepare_kinds():
    return [PrepareKind("weather", "days with the degrees of their hours, made up", add_arguments, prepare)]


@pipeloom.hookimpl
def pipeloom_record_kinds():
    return [RecordKind("days of weather", lambda record: "degrees" in record, checks, lines)]
