"""``entry.py prepare squad``: raw SQuAD JSON into a folder of OFRecord parts."""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Dict

from pipeloom.core.errors import RunError, UsageError
from pipeloom.core.options import Options

SUMMARY = "SQuAD questions (JSON, 1.1 and 2.0) into inputs for a model, as OFRecord parts"


def _options() -> Options:
    options = Options()
    options.owner = "prepare squad"
    options.add("input", str, None, help="raw SQuAD JSON file, for instance train-v1.1.json")
    options.add("output", str, None, help="folder to make; it appears whole or not at all")
    options.add("vocab", str, None, help="WordPiece vocabulary, one token a line")
    options.add("split", str, "train", choices=("train", "eval"), help="train: with the places of the answers; eval: with unique_ids")
    options.add("lowercase", bool, True, help="turn text into small letters without accents, as an uncased vocabulary needs it")
    options.add("seq_length", int, 384, minimum=1, help="tokens of an input, padding included")
    options.add("doc_stride", int, 128, minimum=1, help="tokens from one window of a long context to the next")
    options.add("max_query_length", int, 64, minimum=1, help="tokens of a question; what is longer is cut")
    options.add("parts", int, 1, minimum=1, help="part files to write")
    options.add("overwrite", bool, False, help="replace a folder that was made with other settings")
    return options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for option in _options():
        default = "" if option.default is None else f" [{str(option.default).lower()}]"
        parser.add_argument(f"--{option.name}", default=argparse.SUPPRESS, metavar=option.type.__name__.upper(), help=option.help + default)


def run(arguments: argparse.Namespace) -> int:
    """Make the folder. Returns 0; raises ``UsageError`` or ``RunError``."""
    given = vars(arguments)
    values: Dict[str, Any] = {option.name: option.parse(given[option.name], f"--{option.name}") if option.name in given else option.default
                              for option in _options()}
    for name, what in (("input", "the raw SQuAD JSON file"), ("output", "the folder to make"), ("vocab", "a WordPiece vocabulary, vocab.txt")):
        if not values[name]:
            raise UsageError(f"'prepare squad' needs --{name}: {what}")
    # Here and not above: 'prepare --help' should not wait for what reads data.
    from pipeloom.core.data.squad.features import FeatureSettings
    from pipeloom.core.data.squad.records import Conversion

    source, output, vocab = (Path(values[name]).expanduser() for name in ("input", "output", "vocab"))
    sizes = FeatureSettings(values["seq_length"], values["doc_stride"], values["max_query_length"])
    conversion = Conversion(source, values["split"], vocab, values["lowercase"], sizes, values["parts"])
    return _convert(conversion, output, values["overwrite"])


def _convert(conversion: Any, output: Path, overwrite: bool) -> int:
    from pipeloom.core.data.folders import remove_stale

    begin = time.monotonic()
    if _is_there(output, conversion.settings(), overwrite):
        print(f"{output} is already there, made with these settings")
        return 0
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(output.parent, output.name)
        meta = conversion.write(output)
    except (OSError, RunError) as error:
        cause = error.__cause__ or error    # of a RunError that names a part in a folder which is gone by now
        raise RunError(f"cannot write {output}: {getattr(cause, 'strerror', None) or cause}") from error
    except KeyboardInterrupt:
        raise RunError(f"interrupted while making {output}") from None
    for line in meta["reasons"]:
        print(f"pipeloom: warning: {line}", file=sys.stderr)
    size = sum(path.stat().st_size for path in output.iterdir())
    print(f"{output}: {meta['num_samples']} inputs of {conversion.sizes.seq_length} tokens from {meta['questions']} questions for "
          f"{conversion.split}, {meta['left_out']} left out, SQuAD {'2.0' if meta['version_2'] else '1.1'} "
          f"({size / 1e6:.1f} MB in {time.monotonic() - begin:.1f} s)")
    return 0


def _is_there(output: Path, settings: Dict[str, Any], overwrite: bool) -> bool:
    """Whether ``output`` is already what is asked for. Raises ``UsageError`` where it is something else that must stay."""
    from pipeloom.core.data.folders import is_intact
    from pipeloom.core.data.squad.records import read_meta

    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    try:
        meta = read_meta(output)
    except UsageError:    # not even to be overwritten: it may hold anything
        raise UsageError(f"--output {output} exists and is not of 'prepare squad': give another name, or remove it") from None
    if overwrite:
        return False
    for name, wanted in settings.items():
        found = meta["settings"].get(name)
        if found != wanted:
            is_file = name in ("input", "vocab")
            difference = f"from another --{name} file" if is_file else f"with {name} {_text(found)}, not {_text(wanted)}"
            raise UsageError(f"--output {output} was made {difference}: --overwrite true replaces it, or give another name")
    if not is_intact(output):
        raise UsageError(f"--output {output} is damaged: --overwrite true makes it again")
    return True


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
