"""Dataset plugin: BERT pre-training examples in OFRecord parts, by default a small set that is built here."""

from __future__ import annotations

from pathlib import Path

import pipeloom
from pipeloom.core.base.errors import UsageError


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add(
        "ofrecord_path",
        str,
        default=None,
        section="data",
        resume="free",
        path="weighted",
        help="OFRecord file, or folder of files part-*; several with commas between them, perhaps with the shares of "
        "the samples (wiki:0.7,books:0.3); default: a small English set, built once and cached",
    )
    options.add(
        "eval_path",
        str,
        default=None,
        section="data",
        resume="free",
        path=True,
        help="file or folder of held-out records, evaluated after the last step and every --eval_every; "
        "default with that: for the small English set, a smaller one",
    )
    options.add("max_predictions", int, default=20, section="data", help="masked tokens that a sample has room for")


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    if split == "eval":
        return _held_out(config)
    if split != "train":
        raise UsageError(f"wiki_ofrecord has no split '{split}'; it has 'train' and 'eval'")
    training = _training(config)
    training.held_out = config.eval_path is not None
    return training


def _training(config):
    # Here and not above: listing the plugins should not wait for what reads data.
    from pipeloom.plugins.datasets.wiki_ofrecord.sample import ensure_sample, sample_vocab_size

    if config.ofrecord_path is None:
        path = ensure_sample(config.seq_length, config.max_predictions)
        vocab_size = config.vocab_size or sample_vocab_size(path)
        if vocab_size < sample_vocab_size(path):
            raise UsageError(
                f"--vocab_size {vocab_size} is smaller than the vocabulary of the embedded sample: "
                f"give at least {sample_vocab_size(path)}, or leave it out"
            )
        return _records(config, path, vocab_size)
    return _mixed(config)


def _mixed(config):
    """The records of all folders and files that ``--ofrecord_path`` names."""
    from pipeloom.core.data.mixture import MixedDataset, weighted_paths

    named = weighted_paths(config.ofrecord_path, "--ofrecord_path")
    paths = [Path(path).expanduser() for path, _ in named]
    for number, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise UsageError(f"--ofrecord_path: {path} is there twice; a weight makes more of it")
    vocab_size = _vocab_size(config.vocab_size, paths)
    datasets = [_records(config, path, vocab_size) for path in paths]
    if len(datasets) == 1:
        return datasets[0]
    weights = [weight for _, weight in named if weight is not None]  # all have one, or none has
    return MixedDataset(datasets, weights or None)


def _vocab_size(asked, paths):
    """What was asked for, else the size of the vocabulary that lies beside the records, as 'prepare pretraining' puts
    it there.
    """
    from pipeloom.plugins.libraries.ofrecord.record_rules import BERT_VOCAB_SIZE
    from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

    known, source = None, None
    for path in paths:
        found = Vocabulary.beside(path)
        if found is None:  # none there; or the path is a file, or nothing, of which others tell
            continue
        if known is not None and found.digest() != known.digest():
            raise UsageError(
                f"--ofrecord_path: {source} and {path} have different vocabularies (vocab.txt): their numbers mean "
                f"different words; "
                "prepare them with the same one"
            )
        known, source = found, path
    if known is None:
        return asked or BERT_VOCAB_SIZE
    size = known.size()
    if asked is not None and asked < size:
        raise UsageError(
            f"--vocab_size {asked} is smaller than the vocabulary of {source}: give at least {size}, or leave it out"
        )
    return asked or size


def _held_out(config):
    from pipeloom.core.data.mixture import path_and_weight, paths_in
    from pipeloom.plugins.datasets.wiki_ofrecord.held_out_sample import ensure_held_out

    if config.eval_path is not None:
        pieces = paths_in(config.eval_path)
        if len(pieces) > 1 or path_and_weight(pieces[0], "--eval_path")[1] is not None:
            raise UsageError(
                f"--eval_path {config.eval_path}: an evaluation reads one file or folder, once over: give one, without "
                f"a weight"
            )
        return _records(config, config.eval_path, config.vocab_size)
    if config.ofrecord_path is not None:
        raise UsageError(
            f"--eval_every {config.eval_every}: which records are held out from --ofrecord_path? give others with "
            f"--eval_path"
        )
    return _records(config, ensure_held_out(config.seq_length, config.max_predictions), config.vocab_size)


def _records(config, path, vocab_size):
    from pipeloom.plugins.libraries.ofrecord.reader import OFRecordDataset
    from pipeloom.plugins.libraries.ofrecord.record_rules import SpecialIds, pretraining_options, pretraining_rules

    path = Path(path).expanduser()
    special = SpecialIds.beside(path)
    records = OFRecordDataset(
        path,
        _fields(config.seq_length, config.max_predictions, vocab_size),
        task="pretraining",
        vocab_size=vocab_size,
        options=pretraining_options(config.seq_length, config.max_predictions),
        rules=pretraining_rules(special) if special is not None else (),
    )
    records.vocabulary = _vocabulary(records.path)
    return records


def _vocabulary(folder):
    """The one beside records that 'prepare pretraining' or the embedded sample made; ``None`` where there is none."""
    import json

    from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

    try:
        lowercase = bool(json.loads((folder / "meta.json").read_bytes())["settings"].get("lowercase", True))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        lowercase = None  # who made these records does not say
    return Vocabulary.beside(folder, lowercase)


def _fields(seq_length, max_predictions, vocab_size):
    from pipeloom.plugins.libraries.ofrecord.record_rules import pretraining_fields

    return pretraining_fields(seq_length, max_predictions, vocab_size)
