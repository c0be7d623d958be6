"""Dataset plugin: BERT pre-training examples in OFRecord parts, by default a small set that is built here."""
from __future__ import annotations

import pipeloom
from pipeloom.core.errors import UsageError

#: Tokens of bert-base-uncased, with whose vocabulary the public Wikipedia sets are made.
_BERT_VOCAB_SIZE = 30522


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add("ofrecord_path", str, default=None, section="data", resume="free",
                help="OFRecord file, or folder of files part-*; default: a small English set, built once and cached")
    options.add("eval_path", str, default=None, section="data", resume="free",
                help="the same with held-out records, for --eval_every; default: for the small English set, a smaller one")
    options.add("max_predictions", int, default=20, section="data",
                help="masked tokens that a sample has room for")


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    # Here and not above: listing the plugins should not wait for what reads data.
    from pipeloom.core.data.sample import ensure_sample, sample_vocab_size

    if split == "eval":
        return _held_out(config)
    if split != "train":
        raise UsageError(f"wiki_ofrecord has no split '{split}'; it has 'train' and 'eval'")
    if config.eval_path is not None and config.eval_every is None:
        raise UsageError(f"--eval_path {config.eval_path} has no effect without --eval_every: give the steps between two evaluations")
    if config.ofrecord_path is None:
        path = ensure_sample(config.seq_length, config.max_predictions)
        vocab_size = config.vocab_size or sample_vocab_size(path)
        if vocab_size < sample_vocab_size(path):
            raise UsageError(f"--vocab_size {vocab_size} is smaller than the vocabulary of the embedded sample: "
                             f"give at least {sample_vocab_size(path)}, or leave it out")
    else:
        path = config.ofrecord_path
        vocab_size = config.vocab_size or _BERT_VOCAB_SIZE
    return _records(config, path, vocab_size)


def _held_out(config):
    from pipeloom.core.data.held_out_sample import ensure_held_out

    if config.eval_path is not None:
        return _records(config, config.eval_path, config.vocab_size)
    if config.ofrecord_path is not None:
        raise UsageError(f"--eval_every {config.eval_every}: which records are held out from --ofrecord_path? give others with --eval_path")
    return _records(config, ensure_held_out(config.seq_length, config.max_predictions), config.vocab_size)


def _records(config, path, vocab_size):
    from pipeloom.core.data.reader import OFRecordDataset

    records = OFRecordDataset(
        path,
        _fields(config.seq_length, config.max_predictions, vocab_size),
        task="pretraining",
        vocab_size=vocab_size,
        options={
            **dict.fromkeys(("input_ids", "input_mask", "segment_ids"), f"--seq_length {config.seq_length}"),
            **dict.fromkeys(("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"),
                            f"--max_predictions {config.max_predictions}"),
        },
    )
    records.vocabulary = _vocabulary(records.path)
    return records


def _vocabulary(folder):
    """The one beside records that 'prepare pretraining' or the embedded sample made; ``None`` where there is none."""
    import json

    from pipeloom.core.data.dataset import Vocabulary

    if not (folder / "vocab.txt").is_file():
        return None
    try:
        lowercase = bool(json.loads((folder / "meta.json").read_bytes())["settings"].get("lowercase", True))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        lowercase = None    # who made these records does not say
    return Vocabulary(folder / "vocab.txt", lowercase)


def _fields(seq_length, max_predictions, vocab_size):
    """The fields of the public Wikipedia sets, in the order in which a model reads them."""
    from pipeloom.core.data.dataset import Field

    def ids(name, size, high):
        return Field(name, (size,), "int32", low=0, high=high)

    return [
        ids("input_ids", seq_length, vocab_size),
        ids("input_mask", seq_length, 2),
        ids("segment_ids", seq_length, 2),
        ids("masked_lm_positions", max_predictions, seq_length),
        ids("masked_lm_ids", max_predictions, vocab_size),
        Field("masked_lm_weights", (max_predictions,), "float32"),
        ids("next_sentence_labels", 1, 2),
    ]
