"""Dataset plugin: one or two texts with a class or a number each, from TSV, CSV or JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional, Sequence

import pipeloom
from pipeloom.core.base.errors import UsageError, did_you_mean
from pipeloom.plugins.libraries.classification.framing import SEQ_LENGTH
from pipeloom.plugins.libraries.classification.labels import NameList


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add = options.add
    add(
        "train_file",
        str,
        default=None,
        section="data",
        resume="free",
        path="weighted",
        help="texts to train on: TSV, CSV or JSON lines, perhaps compressed; several with commas between them, perhaps "
        "with shares (a.tsv:0.7,b.tsv:0.3). Tokens are made once and cached",
    )
    add(
        "dev_file",
        str,
        default=None,
        section="data",
        resume="free",
        path="weighted",
        help="texts to evaluate on, after the last step and every --eval_every; without labels they are only predicted",
    )
    for name, what in (("text_column", "text"), ("text_pair_column", "second text"), ("label_column", "label")):
        add(
            name,
            str,
            default=None,
            section="data",
            help=f"column with the {what}: its name, or its number from 1 (default: by the names of public sets, or by "
            "its place)",
        )
    add(
        "header",
        bool,
        default=None,
        section="data",
        help="whether the first row of TSV or CSV has the names of columns (default: where it has known ones)",
    )
    add(
        "quoted",
        bool,
        default=None,
        section="data",
        help="whether fields may stand in double quotes (default: in CSV; in TSV where rows fit together only so)",
    )
    add(
        "labels",
        NameList,
        default=None,
        section="data",
        help="the classes in the order of their numbers (default: those of the training texts: as --init_from numbers "
        "them, else whole numbers by size, else by the alphabet)",
    )
    add(
        "regression",
        bool,
        default=None,
        section="data",
        help="labels are numbers to come close to (default: where all are numbers and one is not whole)",
    )
    add(
        "metrics",
        NameList,
        default=None,
        section="data",
        resume="free",
        help="what an evaluation measures: accuracy, f1 (of the second of two classes), f1_macro, matthews; pearson, "
        "spearman; the best checkpoint has the best of the first one (default: all that apply)",
    )
    add(
        "vocab",
        str,
        default=None,
        section="data",
        resume="free",
        path=True,
        help="vocabulary of the texts: one token a line, or a folder of tokenizer files (default: --init_from's)",
    )
    add(
        "lowercase",
        bool,
        default=None,
        section="data",
        help="turn text into small letters without accents, as an uncased vocabulary needs it "
        "(default: as the vocabulary says, else true)",
    )


@pipeloom.hookimpl
def pipeloom_default_options(config):
    """BERT's for GLUE (Devlin et al. 2019, section 4.1: batch 32, 3 epochs, the smallest of its learning rates, as
    run_glue.py has it), as far as the model has positions."""
    from pipeloom.plugins.libraries.huggingface.source import positions_of

    start = getattr(config, "init_from", None)
    positions = positions_of(start) if start is not None else getattr(config, "max_position_embeddings", None)
    return {
        "learning_rate": 2e-5,
        "train_global_batch_size": 32,
        "epochs": 3.0,
        "seq_length": max(8, min(SEQ_LENGTH, positions or SEQ_LENGTH)),
    }


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    from pipeloom.core.data.mixture import MixedDataset, weighted_paths

    if split == "train":
        if config.train_file is None:
            raise UsageError("classification needs --train_file: TSV, CSV or JSON lines with texts and labels")
        named = weighted_paths(str(config.train_file), "--train_file")
        parts = _encoded(config, "train_file", [Path(path).expanduser() for path, _ in named])
        classes = _classes(config, parts)
        weights = [weight for _, weight in named if weight is not None]  # all have one, or none has
        groups = [[part] for part in parts] if weights else [parts]
        datasets = [_dataset(config, group, classes) for group in groups]
        opened: Any = MixedDataset(datasets, weights) if weights else datasets[0]
        opened.held_out = config.dev_file is not None
        return opened
    if split == "eval":
        return _held_out(config)
    raise UsageError(f"classification has no split '{split}'; it has 'train' and 'eval'")


def _held_out(config: Any) -> Any:
    from pipeloom.core.data.mixture import path_and_weight, paths_in, weighted_paths

    if config.dev_file is None:
        raise UsageError(f"--eval_every {config.eval_every}: on which texts? give them with --dev_file")
    pieces = paths_in(str(config.dev_file))
    if any(path_and_weight(piece, "--dev_file")[1] is not None for piece in pieces):
        raise UsageError(f"--dev_file {config.dev_file}: each text is asked once; leave the weights out")
    parts = _encoded(config, "dev_file", [Path(piece).expanduser() for piece in pieces])
    first = weighted_paths(str(config.train_file), "--train_file")[0][0]
    (training,) = _encoded(config, "train_file", [Path(first).expanduser()])
    if training.meta["has_pairs"] != parts[0].meta["has_pairs"]:
        one, other = (f"{part.source} ({part.meta['columns']})" for part in (training, parts[0]))
        raise UsageError(
            f"the training texts and those of --dev_file must both stand alone or both in pairs: {one}, {other}; say "
            "it with --text_column and --text_pair_column"
        )
    classes = None if config.regression else config.labels
    return _dataset(config, parts, classes, _figures(config, classes))


def _encoded(config: Any, option: str, sources: Sequence[Path]) -> List[Any]:
    """The files of an option as tokens. Raises ``UsageError``."""
    # Here and not above: listing the plugins should not wait for what reads data.
    from pipeloom.plugins.datasets.classification.encoded import TextEncoding
    from pipeloom.plugins.libraries.classification.columns import ColumnNames
    from pipeloom.plugins.libraries.huggingface.source import vocabulary_of_run

    columns = ColumnNames(config.text_column, config.text_pair_column, config.label_column, config.header)
    parts = []
    for source in sources:
        vocabulary = vocabulary_of_run(config, source)
        part = TextEncoding(source, columns, config.quoted, vocabulary).folder()
        size = part.meta["vocab_size"]
        if config.vocab_size is not None and config.vocab_size < size:
            raise UsageError(
                f"--vocab_size {config.vocab_size} is smaller than the vocabulary of --{option} {source}: "
                f"give at least {size}, or leave it out"
            )
        parts.append(part)
    if len({part.meta["has_pairs"] for part in parts}) > 1:
        what = ", ".join(f"{part.source} ({part.meta['columns']})" for part in parts)
        raise UsageError(f"--{option}: some files have two texts in a row and others one: {what}")
    return parts


def _classes(config: Any, parts: Sequence[Any]) -> Optional[List[str]]:
    """The classes of training texts by number, ``None`` for a regression. Raises ``UsageError``."""
    from pipeloom.plugins.libraries.classification import labels

    where = f"--train_file {config.train_file}"
    bare = next((part for part in parts if not part.has_labels), None)
    if bare is not None:
        raise UsageError(
            f"--train_file {bare.source} has no labels to learn ({bare.meta['columns']}): which column has them? say "
            "it with --label_column"
        )
    found = list(dict.fromkeys(label for part in parts for label in part.labels))
    if config.regression or (config.regression is None and config.labels is None and labels.are_for_regression(found)):
        if config.labels is not None:
            raise UsageError("--labels are names of classes, and --regression true has none: leave one of the two out")
        return None
    if config.labels is not None:
        labels.check_classes(config.labels, 0, "--labels")
        return config.labels
    labels.check_classes(found, sum(map(len, parts)), where)
    known = _classes_of_start(config)
    return known if known is not None and set(known) == set(found) else labels.in_order(found)


def _classes_of_start(config: Any) -> Optional[List[str]]:
    """The classes of what ``--init_from`` names, as far as it names any."""
    from pipeloom.plugins.libraries.classification.labels import classes_of_model
    from pipeloom.plugins.libraries.huggingface.source import open_pretrained

    start = getattr(config, "init_from", None)
    return None if start is None else classes_of_model(open_pretrained(start).config)


def _figures(config: Any, classes: Optional[Sequence[str]]) -> Sequence[str]:
    """What is measured: ``--metrics``, else what applies. Raises ``UsageError`` for what does not."""
    from pipeloom.plugins.libraries.classification.figures import FIGURES, usual

    fitting = usual(0 if classes is None else len(classes))
    for name in config.metrics or ():
        if name not in FIGURES:
            raise UsageError(f"--metrics {name}: there is no such metric{did_you_mean(name, FIGURES)}")
        if name not in fitting:
            what = "a regression" if classes is None else f"{len(classes)} classes"
            raise UsageError(f"--metrics {name} is not measured of {what}; there is {', '.join(fitting)}")
    return config.metrics or fitting


def _dataset(config: Any, parts: Sequence[Any], classes: Optional[Sequence[str]], figures: Sequence[str] = ()) -> Any:
    from pipeloom.plugins.datasets.classification.dataset import LabelledDataset

    size = max(part.meta["vocab_size"] for part in parts)
    return LabelledDataset(parts, classes, config.seq_length, config.vocab_size or size, figures)
