"""``prepare validate`` and ``prepare inspect`` on real records, and on ones that each have one fault."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from shared_data import shared

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.commands.cli import main
from pipeloom.plugins.datasets import wiki_ofrecord
from pipeloom.plugins.libraries.ofrecord.index import INDEX
from pipeloom.plugins.libraries.ofrecord.records import decode, index_part, write_part

pytestmark = pytest.mark.fast


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def change(folder, name: str, field: str, edit, numbers=(2,)):
    """Some records of a part written anew, with a changed field, and no index any more."""
    part = folder / name
    data = part.read_bytes()
    records = [decode(data[offset : offset + length]) for offset, length in index_part(part).tolist()]
    for number in numbers:
        edit(records[number][field]) if field else edit(records[number])
    write_part(part, records)
    if (folder / INDEX).exists():
        (folder / INDEX).unlink()


def put(place, value):
    def edit(array):
        array[place] = value

    return edit


def test_good_records_pass_and_their_statistics_are_right(folder, capsys):
    assert main(["prepare", "validate", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "pre-training examples in 3 parts" in said and "agrees with every record" in said
    before = (folder / INDEX).read_bytes()
    (folder / INDEX).unlink()
    assert main(["prepare", "validate", str(folder)]) == 0
    assert "written to index.safetensors" in capsys.readouterr().out and (folder / INDEX).read_bytes() == before


def test_the_public_records_are_as_they_should_be(tmp_path, capsys):
    shutil.copy(shared("wiki_ofrecord_seq_len_128/part-0"), tmp_path / "part-0")
    assert main(["prepare", "validate", str(tmp_path), "--vocab", str(shared("bert-base-uncased-vocab.txt"))]) == 0
    said = capsys.readouterr().out  # the figures of the data's own description
    assert "1,024 pre-training examples in 1 part" in said and "105.8 a record" in said and "15.76 a record" in said
    assert re.search(r"next sentence +55.47 % random", said)


@pytest.mark.parametrize(
    "field, edit, says",
    [
        ("input_ids", put(0, 5), r"input_ids does not begin with \[CLS\]"),
        ("input_ids", put(1, 800), r"outside of the vocabulary \(0 to 799\)"),
        ("input_mask", put(3, 0), "input_mask is not ones and then zeros"),
        ("segment_ids", put(1, 1), "segment_ids goes back from 1 to 0"),
        ("masked_lm_weights", put(0, 0), "masked_lm_weights is not ones and then zeros"),
        ("masked_lm_positions", put(0, 0), "masked_lm_positions has a place outside of the text"),
        (
            "masked_lm_positions",
            lambda positions: positions[:2].sort() or positions[:2].__setitem__(slice(0, 2), positions[1::-1].copy()),
            "masked_lm_positions does not rise",
        ),
        ("masked_lm_ids", put(0, 4), "masked_lm_ids has a token that is no text"),
        ("next_sentence_labels", put(0, 2), "'next_sentence_labels' has the value 2 at position 0, allowed are 0 to 1"),
        ("", lambda record: record.pop("segment_ids"), "has no field 'segment_ids', the first record has"),
        ("", lambda record: record.update(more=np.zeros(1, np.int32)), "has a field 'more', the first record has not"),
        (
            "",
            lambda record: record.update(segment_ids=np.zeros(3, np.int32)),
            "field 'segment_ids' has 3 values, 64 are needed",
        ),
    ],
)
def test_a_bad_record_is_named_and_no_index_is_written(folder, capsys, field, edit, says):
    change(folder, "part-1", field, edit)
    assert main(["prepare", "validate", str(folder)]) == 1
    said = capsys.readouterr().out
    assert re.search(rf"part-1 record 2: .*{says}", said) and re.search(
        r"1 of [\d,]+ records are bad; no index was written", said
    )
    assert not (folder / INDEX).exists() and not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_flipped_bit_is_found_against_the_index(folder, capsys):
    data = bytearray((folder / "part-2").read_bytes())
    offset, length = index_part(folder / "part-2")[1].tolist()
    data[offset + length - 1] ^= 2
    (folder / "part-2").write_bytes(bytes(data))
    assert main(["prepare", "validate", str(folder)]) == 1
    assert "part-2 record 1: is not the one in the index" in capsys.readouterr().out


def test_many_bad_records_are_counted(folder, capsys):
    for name in ("part-0", "part-1", "part-2"):
        change(folder, name, "next_sentence_labels", put(0, 7), range(1, 9))
    assert main(["prepare", "validate", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11 and lines[-1].startswith("24 of ") and "the first 10 are above" in lines[-1]


def test_other_records_are_checked_for_what_all_records_have(tmp_path, capsys):
    write_part(tmp_path / "part-0", [{"x": np.arange(3, dtype=np.int32), "name": np.array([b"a"], object)}] * 2)
    assert main(["prepare", "validate", str(tmp_path)]) == 0
    assert "2 records of a kind that is not known here" in capsys.readouterr().out
    assert main(["prepare", "inspect", str(tmp_path), "--count", "1"]) == 0
    assert re.search(r"x +int32\[3\] 0 1 2", capsys.readouterr().out)


def test_inspect_shows_what_is_masked(tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "dog", "."]) + "\n"
    )
    record = {
        "input_ids": np.array([2, 5, 4, 7, 9, 3, 5, 10, 3, 0], np.int32),
        "input_mask": np.array([1] * 9 + [0], np.int32),
        "segment_ids": np.array([0] * 6 + [1] * 3 + [0], np.int32),
        "masked_lm_positions": np.array([2, 3, 4, 6, 0], np.int32),
        "masked_lm_ids": np.array([6, 7, 8, 5, 0], np.int32),
        "masked_lm_weights": np.array([1, 1, 1, 1, 0], np.float32),
        "next_sentence_labels": np.array([1], np.int32),
    }
    write_part(tmp_path / "part-0", [record] * 2)
    write_part(tmp_path / "part-1", [{**record, "next_sentence_labels": np.array([0], np.int32)}])
    assert main(["prepare", "inspect", str(tmp_path), "--record", "1", "--count", "2"]) == 0
    said = capsys.readouterr().out
    assert "part-0 record 1" in said and "part-1 record 0" in said and "record 2" not in said
    assert (
        "  first   the [MASK: cat][=s] [dog: sat]\n  second  [=the] .\n  the second is another document's text; 9 "
        "tokens" in said
    )
    assert "the second is the next sentence" in said


@pytest.mark.parametrize(
    "command, says",
    [
        (["validate", "nowhere"], "no file or folder nowhere"),
        (["validate"], "the following arguments are required: DIR"),
        (["inspect", "COPY/part-0", "--record", "99999"], "has no record 99999; they are numbered from 0"),
        (["validate", "COPY/part-0"], "is a file; give the folder that it is in"),
        (["inspect", "COPY", "--count", "0"], "must be a whole number"),
        (["inspect", "COPY/none"], "no file or folder"),
        (["validate", "COPY", "--vocab", "no.txt"], "cannot read the vocabulary no.txt"),
        (["validat", "COPY"], "did you mean 'validate'"),
    ],
)
def test_what_cannot_be_is_one_line(folder, capsys, command, says):
    assert main(["prepare", *(word.replace("COPY", str(folder)) for word in command)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_records_without_a_vocabulary_are_not_shown(folder, capsys):
    (folder / "vocab.txt").unlink()
    assert main(["prepare", "inspect", str(folder)]) == 2
    assert "has token ids and no vocab.txt beside it; give it with --vocab" in capsys.readouterr().err


# --- validating and training say the same


def fill(value):
    def edit(array):
        array[:] = value

    return edit


def swap(name, change):
    def edit(record):
        record[name] = change(record[name])

    return edit


#: A fault of one record: the field, the edit, whether it is one where the vocabulary of the records is not known.
FAULTS = [
    ("input_ids", put(5, 800), False),
    ("input_ids", put(5, 30522), True),
    ("input_ids", put(5, -1), True),
    ("input_ids", put(0, 5), False),
    ("input_mask", put(3, 0), False),
    ("input_mask", fill(0), False),
    ("input_mask", put(3, 2), True),
    ("segment_ids", put(1, 1), False),
    ("segment_ids", put(1, 2), True),
    ("segment_ids", fill(1), False),
    ("masked_lm_positions", put(1, 63), False),
    ("masked_lm_positions", put(1, 64), True),
    ("masked_lm_positions", put(1, -1), True),
    ("masked_lm_positions", fill(3), False),
    ("masked_lm_ids", put(0, 4), False),
    ("masked_lm_ids", put(0, 800), False),
    ("masked_lm_ids", put(0, 30522), True),
    ("masked_lm_weights", put(0, 0), False),
    ("masked_lm_weights", put(0, 0.5), False),
    ("masked_lm_weights", put(0, np.nan), True),
    ("masked_lm_weights", put(0, np.inf), True),
    ("masked_lm_weights", fill(0), False),
    ("next_sentence_labels", put(0, 2), True),
    *(
        ("", lambda record, name=name: record.pop(name), True)
        for name in ("input_ids", "masked_lm_positions", "next_sentence_labels")
    ),
    ("", swap("input_ids", lambda array: array.astype(np.int64)), True),
    ("", swap("masked_lm_weights", lambda array: array.astype(float)), True),
    ("", swap("input_ids", lambda array: array[:32]), True),
    ("", swap("masked_lm_ids", lambda array: array[:0]), True),
    ("", swap("next_sentence_labels", lambda array: np.zeros(2, np.int32)), True),
    ("", swap("input_ids", lambda array: np.array([b"x"], object)), True),
    ("", lambda record: record.update(more=np.zeros(1, np.int32)), False),
    ("", lambda record: None, None),
]


def training_takes(folder) -> bool:
    """Whether one process takes the records. Two stages, of which each reads its own fields, see the same together."""
    config = SimpleNamespace(
        seq_length=64, max_predictions=10, vocab_size=None, ofrecord_path=str(folder), eval_path=None, eval_every=None
    )

    def takes(*fields) -> bool:
        try:
            data = wiki_ofrecord.pipeloom_open_dataset(config=config, split="train")
            data.read(range(len(data)), fields or list(data.fields))
            return True
        except (UsageError, RunError):
            return False

    first = ("input_ids", "segment_ids", "input_mask")
    last = ("input_mask", "masked_lm_positions", "masked_lm_ids", "masked_lm_weights", "next_sentence_labels")
    assert takes() == (takes(*first) and takes(*last))
    return takes()


@pytest.fixture(scope="module")
def few(made, tmp_path_factory):
    """Twelve records and their vocabulary."""
    folder = tmp_path_factory.mktemp("few")
    data = (made / "part-0").read_bytes()
    write_part(
        folder / "part-0",
        [decode(data[offset : offset + length]) for offset, length in index_part(made / "part-0")[:12].tolist()],
    )
    shutil.copy(made / "vocab.txt", folder)
    return folder


def padded(folder) -> int:
    """Return the first record but 0 that has padding: which that is depends on the version of the tokenizer."""
    data = (folder / "part-0").read_bytes()
    records = [decode(data[offset : offset + length]) for offset, length in index_part(folder / "part-0").tolist()]
    return next(number for number, record in enumerate(records) if number and not record["input_mask"].all())


@pytest.mark.parametrize("with_vocabulary, first", [(True, False), (False, False), (True, True)])
def test_validating_and_training_agree(few, tmp_path, capsys, with_vocabulary, first):
    number = 0 if first else padded(few)
    for case, (field, edit, always) in enumerate(FAULTS):
        folder = tmp_path / str(case)
        shutil.copytree(few, folder)
        change(folder, "part-0", field, edit, [number])
        if not with_vocabulary:
            (folder / "vocab.txt").unlink()
        # The vocabulary that training supposes where there is none has 30,522 tokens.
        code = main(["prepare", "validate", str(folder)])
        said = capsys.readouterr().out
        assert (code == 0) == training_takes(folder), (case, said)
        if number:
            assert (code == 0) == (always is None or not (with_vocabulary or always)), (case, said)
        if code == 0 and always is False:
            assert (
                "note  " in said
                and "which training takes where" in said
                or field in ("input_ids", "masked_lm_ids")
                or not field
            ), (case, said)
        assert "Traceback" not in said and main(
            ["prepare", "inspect", str(folder), "--vocab", str(few / "vocab.txt"), "--count", "12"]
        ) in (0, 2)
        capsys.readouterr()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda data: b"", lambda data: data[:4], lambda data: b"\xff" * 99]
)
def test_a_damaged_part_is_refused_by_both(few, tmp_path, capsys, damage):
    shutil.copytree(few, tmp_path / "copy")
    (tmp_path / "copy" / "part-0").write_bytes(damage((few / "part-0").read_bytes()))
    assert main(["prepare", "validate", str(tmp_path / "copy")]) in (1, 2) and not training_takes(tmp_path / "copy")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "more, says",
    [
        (["--seq_length", "128"], "field 'input_ids' has 64 values, --seq_length 128 needs 128"),
        (["--max_predictions", "20"], "field 'masked_lm_positions' has 10 values, --max_predictions 20 needs 20"),
        (["--vocab_size", "100"], "--vocab_size 100 allows 0 to 99"),
    ],
)
def test_what_training_will_ask_for_can_be_asked(few, capsys, more, says):
    assert main(["prepare", "validate", str(few), *more]) == 1 and says in capsys.readouterr().out
