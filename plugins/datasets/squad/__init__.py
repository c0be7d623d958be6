"""Dataset plugin: questions about paragraphs (SQuAD 1.1 and 2.0), from raw JSON or from folders of ``prepare
squad``.
"""

from __future__ import annotations

from pathlib import Path

import pipeloom
from pipeloom.core.base.errors import UsageError

#: Tokens of an input in BERT's fine-tuning.
_SEQ_LENGTH = 384
#: The options that decide the inputs in a prepared folder.
_MADE_WITH = ("seq_length", "doc_stride", "max_query_length", "lowercase")


@pipeloom.hookimpl
def pipeloom_add_options(options):
    add = options.add
    add(
        "squad_train",
        str,
        default=None,
        section="data",
        resume="free",
        path="weighted",
        help="questions to train on: raw SQuAD JSON or JSON lines of rows, perhaps compressed, or a folder of 'prepare "
        "squad'; several with commas between them, perhaps with shares (a.json:0.7,b.json:0.3). Raw ones are "
        "converted once and cached",
    )
    add(
        "squad_dev",
        str,
        default=None,
        section="data",
        resume="free",
        path="weighted",
        help="questions to evaluate on, after the last step and every --eval_every; those without answers are answered "
        "alone",
    )
    add(
        "squad_f1",
        str,
        default="words",
        section="data",
        resume="free",
        choices=("words", "characters"),
        help="what F1 counts: words as SQuAD's official evaluation, or Chinese and Japanese characters as MLQA's",
    )
    add(
        "vocab",
        str,
        default=None,
        section="data",
        resume="free",
        path=True,
        help="vocabulary of raw questions: WordPieces, one a line, or a folder with tokenizer files, of byte-level BPE "
        "too (default: those in --init_from)",
    )
    add(
        "lowercase",
        bool,
        default=None,
        section="data",
        help="turn text into small letters without accents, as an uncased vocabulary needs it "
        "(default: as the vocabulary says, else true)",
    )
    add(
        "doc_stride",
        int,
        default=128,
        section="data",
        minimum=1,
        help="tokens from one window of a long context to the next",
    )
    add(
        "max_query_length",
        int,
        default=64,
        section="data",
        minimum=1,
        help="tokens of a question; what is longer is cut",
    )
    add(
        "n_best_size",
        int,
        default=20,
        section="data",
        resume="free",
        minimum=1,
        help="answers that nbest.json lists for a question",
    )
    add(
        "max_answer_length",
        int,
        default=30,
        section="data",
        resume="free",
        minimum=1,
        help="tokens that a predicted answer may have",
    )
    add(
        "null_score_diff_threshold",
        float,
        default=0.0,
        section="data",
        resume="free",
        help="SQuAD 2.0: there is no answer where that is ahead of the best one by more than this",
    )


@pipeloom.hookimpl
def pipeloom_default_options(config):
    """BERT's for SQuAD (Devlin et al. 2019, section 4.2, and run_squad.py), as far as the model has positions for them;
    of a prepared folder the settings that it was made with."""
    from pipeloom.plugins.libraries.huggingface.source import positions_of
    from pipeloom.plugins.libraries.questions.features import sizes_for

    start = getattr(config, "init_from", None)
    positions = positions_of(start) if start is not None else None
    usual = min(_SEQ_LENGTH, positions or getattr(config, "max_position_embeddings", _SEQ_LENGTH))
    prepared = _settings_of_folder(config.squad_train)
    seq_length = config.seq_length if "seq_length" in config.given else prepared.get("seq_length", usual)
    return {
        "learning_rate": 5e-5,
        "train_global_batch_size": 32,
        "epochs": 3.0,
        "seq_length": max(seq_length, 8),
        **sizes_for(seq_length),
        **prepared,
    }


def _settings_of_folder(path):
    """The options that a prepared folder was made with; nothing where ``path`` is none."""
    from pipeloom.plugins.libraries.ofrecord.question_records import read_meta

    folder = Path(path).expanduser() if path is not None else None
    if folder is None or not folder.is_dir():
        return {}
    try:
        settings = read_meta(folder)["settings"]
    except UsageError:  # it will be said when it is opened
        return {}
    return {name: settings[name] for name in _MADE_WITH}


@pipeloom.hookimpl
def pipeloom_open_dataset(config, split):
    if split == "train":
        if config.squad_train is None:
            raise UsageError(
                "squad needs --squad_train: raw SQuAD JSON (train-v1.1.json), or a folder of 'prepare squad'"
            )
        training = _training(config)
        training.held_out = config.squad_dev is not None
        return training
    if split == "eval":
        if config.squad_dev is None:
            raise UsageError(f"--eval_every {config.eval_every}: on which questions? give them with --squad_dev")
        return _held_out(config)
    raise UsageError(f"squad has no split '{split}'; it has 'train' and 'eval'")


def _training(config):
    """The questions of all files and folders that ``--squad_train`` names."""
    from pipeloom.core.data.mixture import MixedDataset, weighted_paths
    from pipeloom.plugins.libraries.ofrecord.question_records import read_meta

    named = weighted_paths(str(config.squad_train), "--squad_train")
    datasets = [_open(config, "train", "squad_train", [Path(path).expanduser()]) for path, _ in named]
    if len(datasets) == 1:
        return datasets[0]
    vocabularies = [read_meta(dataset.path)["settings"]["vocab"] for dataset in datasets]
    for (path, _), vocabulary in zip(named, vocabularies):
        if vocabulary != vocabularies[0]:
            raise UsageError(
                f"--squad_train: {named[0][0]} and {path} have different vocabularies: prepare them with the same one"
            )
    weights = [weight for _, weight in named if weight is not None]  # all have one, or none has
    return MixedDataset(datasets, weights or None)


def _held_out(config):
    """The questions of all files that ``--squad_dev`` names, or of one folder."""
    from pipeloom.core.data.mixture import path_and_weight, paths_in

    pieces = paths_in(str(config.squad_dev))
    paths = [Path(piece).expanduser() for piece in pieces]
    if any(path_and_weight(piece, "--squad_dev")[1] is not None for piece in pieces):
        raise UsageError(f"--squad_dev {config.squad_dev}: questions are asked once each; leave the weights out")
    folder = next((path for path in paths if path.is_dir()), None)
    if folder is not None and len(paths) > 1:
        raise UsageError(f"--squad_dev {config.squad_dev}: {folder} is a folder; give it alone, or files")
    return _open(config, "eval", "squad_dev", paths)


def _open(config, split, option, sources):
    # Here and not above: listing the plugins should not wait for what reads data.
    from pipeloom.plugins.datasets.squad.dataset import SquadDataset
    from pipeloom.plugins.libraries.ofrecord.question_records import read_meta
    from pipeloom.plugins.libraries.questions.answers import AnswerSettings

    source = ",".join(map(str, sources))
    is_folder = sources[0].is_dir()
    folder = _checked(config, split, option, sources[0]) if is_folder else _converted(config, split, sources)
    size = read_meta(folder)["vocab_size"]
    if config.vocab_size is not None and config.vocab_size < size:
        raise UsageError(
            f"--vocab_size {config.vocab_size} is smaller than the vocabulary of --{option} {source}: "
            f"give at least {size}, or leave it out"
        )
    answers = AnswerSettings(config.n_best_size, config.max_answer_length, config.null_score_diff_threshold)
    return SquadDataset(folder, source, config.vocab_size or size, answers, config.squad_f1)


def _converted(config, split, sources):
    """The folder of the cache with the inputs of raw files."""
    import json

    from pipeloom.plugins.datasets.squad.records import Conversion
    from pipeloom.plugins.libraries.huggingface.source import vocabulary_of_run
    from pipeloom.plugins.libraries.preparation.folders import ensure_folder
    from pipeloom.plugins.libraries.questions.features import FeatureSettings

    sizes = FeatureSettings(config.seq_length, config.doc_stride, config.max_query_length)
    conversion = Conversion(tuple(sources), split, vocabulary_of_run(config, sources[0]).path, config.lowercase, sizes)
    return ensure_folder(
        f"squad-{split}", json.dumps(conversion.settings(), sort_keys=True), conversion.write, what="the SQuAD inputs"
    )


def _checked(config, split, option, folder):
    """A folder of ``prepare squad``, where it was made as the options say."""
    from pipeloom.plugins.libraries.ofrecord.question_records import read_meta
    from pipeloom.plugins.libraries.preparation.folders import is_intact
    from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary

    settings = read_meta(folder)["settings"]
    if settings["split"] != split:
        raise UsageError(
            f"--{option} {folder} was made for {settings['split']}: make one with 'prepare squad --split {split}'"
        )
    for name in _MADE_WITH:
        if getattr(config, name) not in (None, settings[name]):
            made, wanted = (str(value).lower() for value in (settings[name], getattr(config, name)))
            raise UsageError(
                f"--{option} {folder} was made with {name} {made}, not {wanted}: give --{name} {made}, or make it again"
            )
    given = None if config.vocab is None else Vocabulary(Path(config.vocab).expanduser(), config.lowercase)
    if given is not None and given.digest() != settings["vocab"]:
        raise UsageError(
            f"--{option} {folder} was made with another vocabulary than --vocab {config.vocab}: leave --vocab out, or "
            f"make it again"
        )
    if not is_intact(folder):
        raise UsageError(
            f"--{option} {folder} is damaged, its files are not as its meta.json says: make it again with "
            "'prepare squad --overwrite true'"
        )
    return folder
