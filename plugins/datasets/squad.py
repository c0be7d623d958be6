"""Dataset plugin: questions about paragraphs (SQuAD 1.1 and 2.0), from raw JSON or from folders of ``prepare squad``."""
from __future__ import annotations

from pathlib import Path

import pipeloom
from pipeloom.core.errors import UsageError


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add = options.add
    add("squad_train", str, default=None, section="data", resume="free",
        help="questions to train on: raw SQuAD JSON, or a folder of 'prepare squad'; raw JSON is converted once and cached")
    add("squad_dev", str, default=None, section="data", resume="free", help="the same with questions to evaluate on, for --eval_every")
    add("vocab", str, default=None, section="data", resume="free",
        help="WordPiece vocabulary of raw questions: one token a line, or a folder with tokenizer files "
             "(default: those in --init_from)")
    add("lowercase", bool, default=None, section="data",
        help="turn text into small letters without accents, as an uncased vocabulary needs it "
             "(default: as the vocabulary says, else true)")
    add("doc_stride", int, default=128, section="data", minimum=1, help="tokens from one window of a long context to the next")
    add("max_query_length", int, default=64, section="data", minimum=1, help="tokens of a question; what is longer is cut")
    add("n_best_size", int, default=20, section="data", resume="free", minimum=1, help="answers that nbest.json lists for a question")
    add("max_answer_length", int, default=30, section="data", resume="free", minimum=1, help="tokens that a predicted answer may have")
    add("null_score_diff_threshold", float, default=0.0, section="data", resume="free",
        help="SQuAD 2.0: there is no answer where that is ahead of the best one by more than this")


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    if split == "train":
        if config.squad_train is None:
            raise UsageError("squad needs --squad_train: raw SQuAD JSON (train-v1.1.json), or a folder of 'prepare squad'")
        if config.squad_dev is not None and config.eval_every is None:
            raise UsageError(f"--squad_dev {config.squad_dev} has no effect without --eval_every: give the steps between two evaluations")
        return _open(config, split, "squad_train")
    if split == "eval":
        if config.squad_dev is None:
            raise UsageError(f"--eval_every {config.eval_every}: on which questions? give them with --squad_dev")
        return _open(config, split, "squad_dev")
    raise UsageError(f"squad has no split '{split}'; it has 'train' and 'eval'")


def _open(config, split, option):
    # Here and not above: listing the plugins should not wait for what reads data.
    from pipeloom.core.data.squad.answers import AnswerSettings
    from pipeloom.core.data.squad.dataset import SquadDataset
    from pipeloom.core.data.squad.records import read_meta

    source = Path(getattr(config, option)).expanduser()
    folder = _checked(config, split, option, source) if source.is_dir() else _converted(config, split, source)
    size = read_meta(folder)["vocab_size"]
    if config.vocab_size is not None and config.vocab_size < size:
        raise UsageError(f"--vocab_size {config.vocab_size} is smaller than the vocabulary of --{option} {source}: "
                         f"give at least {size}, or leave it out")
    answers = AnswerSettings(config.n_best_size, config.max_answer_length, config.null_score_diff_threshold)
    return SquadDataset(folder, source, config.vocab_size or size, answers)


def _converted(config, split, source):
    """The folder of the cache with the inputs of a raw file."""
    import json

    from pipeloom.core.data.folders import ensure_folder
    from pipeloom.core.data.squad.features import FeatureSettings
    from pipeloom.core.data.squad.records import Conversion

    sizes = FeatureSettings(config.seq_length, config.doc_stride, config.max_query_length)
    conversion = Conversion(source, split, _vocab(config, source), config.lowercase, sizes)
    return ensure_folder(f"squad-{split}", json.dumps(conversion.settings(), sort_keys=True), conversion.write, what="the SQuAD inputs")


def _vocab(config, source):
    from pipeloom.core.checkpoint.source import vocabulary_of

    if config.vocab is not None:
        return Path(config.vocab).expanduser()
    start = getattr(config, "init_from", None)    # an option of models; their folders have the vocabulary with them
    found = vocabulary_of(start) if start is not None else None
    if found is not None:
        says = found.files().lowercase
        if config.lowercase is not None and says not in (None, config.lowercase):
            raise UsageError(f"--init_from {start} was trained with lowercase {str(says).lower()}: leave --lowercase "
                             "out, or give a vocabulary of your own with --vocab")
        return found.path
    raise UsageError(f"{source} is text: give the vocabulary that turns it into tokens with --vocab vocab.txt")


def _checked(config, split, option, folder):
    """A folder of ``prepare squad``, where it was made as the options say."""
    from pipeloom.core.data.folders import is_intact
    from pipeloom.core.data.dataset import Vocabulary
    from pipeloom.core.data.squad.records import read_meta

    settings = read_meta(folder)["settings"]
    if settings["split"] != split:
        raise UsageError(f"--{option} {folder} was made for {settings['split']}: make one with 'prepare squad --split {split}'")
    for name in ("seq_length", "doc_stride", "max_query_length", "lowercase"):
        if getattr(config, name) not in (None, settings[name]):
            made, wanted = (str(value).lower() for value in (settings[name], getattr(config, name)))
            raise UsageError(f"--{option} {folder} was made with {name} {made}, not {wanted}: give --{name} {made}, or "
                             "make it again")
    given = None if config.vocab is None else Vocabulary(Path(config.vocab).expanduser(), config.lowercase)
    if given is not None and given.digest() != settings["vocab"]:
        raise UsageError(f"--{option} {folder} was made with another vocabulary than --vocab {config.vocab}: leave --vocab out, or make it again")
    if not is_intact(folder):
        raise UsageError(f"--{option} {folder} is damaged, its files are not as its meta.json says: make it again with "
                         "'prepare squad --overwrite true'")
    return folder
