"""The data: a text file with a fruit and its four traits in each line; ``prepare orchard`` makes one up."""

import random
from pathlib import Path

import numpy as np

from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.files import replace_file
from pipeloom.core.contract.commands import PrepareKind
from pipeloom.core.contract.dataset import Dataset, Field

FRUIT = ("apple", "plum", "cherry")
TRAITS = ("red", "blue", "green", "round", "long", "small", "sweet", "sour")


class Basket(Dataset):
    """The fruit of a file. Nothing is checked here: that is pipeloom's."""

    task, vocab_size = "fruit", len(TRAITS)

    def __init__(self, path):
        self.path = Path(path)
        try:
            lines = [line.split() for line in self.path.read_text().splitlines()]
        except OSError as error:
            raise UsageError(f"--basket {path}: {error.strerror}") from None
        self._fruit = np.array([[int(line[0])] for line in lines], np.int32)
        self._traits = np.array([[int(trait) for trait in line[1:]] for line in lines], np.int32)
        self.fields = {
            "fruit": Field("fruit", (1,), "int32", 0, len(FRUIT)),
            "traits": Field("traits", (4,), "int32", 0, len(TRAITS)),
        }

    def __len__(self):
        return len(self._fruit)

    def read(self, indices, names):
        arrays = {"fruit": self._fruit, "traits": self._traits}
        return {name: arrays[name][np.asarray(indices)] for name in names}

    def describe(self):
        return f"{len(self)} fruit of {self.path}"


def opened(config, split):
    if split == "eval":
        return Basket(config.held_out_basket) if config.held_out_basket is not None else None
    if config.basket is None:
        raise UsageError("orchard needs --basket: a file of 'prepare orchard'")
    basket = Basket(config.basket)
    basket.held_out = config.held_out_basket is not None
    return basket


def _add_arguments(parser):
    parser.add_argument("--output", required=True, metavar="FILE")
    parser.add_argument("--count", type=int, default=64, metavar="N")


def _prepare(options):
    chance, lines = random.Random(options.count), []
    for _ in range(options.count):
        traits = [chance.randrange(len(TRAITS)) for _ in range(4)]
        lines.append(" ".join(map(str, [sum(traits) % len(FRUIT), *traits])) + "\n")
    replace_file(Path(options.output), "".join(lines).encode())
    print(f"{options.output}: {options.count} fruit")
    return 0


KIND = PrepareKind("orchard", "fruit with their traits, made up", _add_arguments, _prepare)
