"""Files of labelled texts in all the shapes that public sets and other tools give them, and what broken ones say."""

from __future__ import annotations

import bz2
import gzip
import json

import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.classification.columns import ColumnNames
from pipeloom.plugins.libraries.classification.rows import read_rows

pytestmark = pytest.mark.fast


def rows_of(tmp_path, name, content, quoted=None, with_labels=True, **asked):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(path, ColumnNames(**asked), quoted, with_labels)


def short(found):
    return [tuple(part for part in (row.text, row.pair, row.label) if part is not None) for row in found.rows]


#: The first rows of GLUE's files as they are downloaded, shortened: name, content, what is read.
GLUE = {
    "CoLA without a header": (
        "train.tsv",
        "gj04\t1\t\tOur friends won't buy this.\ngj04\t0\t*\tThey drank the pub.\n",
        [("Our friends won't buy this.", "1"), ("They drank the pub.", "0")],
    ),
    "CoLA's test file": (
        "test.tsv",
        "index\tsentence\n0\tBill whistled past the house.\n",
        [("Bill whistled past the house.",)],
    ),
    "SST-2": (
        "train.tsv",
        'sentence\tlabel\nhide "new \t0\ncontains no wit , \t0\n',
        [('hide "new ', "0"), ("contains no wit , ", "0")],
    ),
    "MRPC with single quotes": (
        "msr_paraphrase_train.txt",
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\tHe said " yes .\tHe said yes .\r\n'
        '0\t9\t10\tA " b "\t" c\r\n',
        [('He said " yes .', "He said yes .", "1"), ('A " b "', '" c', "0")],
    ),
    "STS-B": (
        "train.tsv",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tmain\tMSR\t2012\t0001\tnone\tnone\tA plane.\tAn air plane.\t5.000\n"
        "1\tmain\tMSR\t2012\t0004\tnone\tnone\tA man.\tA flute.\t3.800\n",
        [("A plane.", "An air plane.", "5"), ("A man.", "A flute.", "3.800")],
    ),
    "QQP": (
        "train.tsv",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        "133273\t1\t2\tHow?\tWhy?\t0\n402555\t3\t4\tBroken\n4\t5\t6\tA\tB\t1\n",
        [("How?", "Why?", "0"), ("A", "B", "1")],
    ),
    "MNLI, where annotators did not agree": (
        "dev_matched.tsv",
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\t"
        "sentence1\tsentence2\tlabel1\tlabel2\tgold_label\n"
        "0\t1\t1n\tslate\tx\tx\tx\tx\tThe new rights\tEveryone\tneutral\tneutral\tneutral\n"
        "1\t2\t2c\tslate\tx\tx\tx\tx\tThis site\tThe site\tneutral\tentailment\t-\n",
        [("The new rights", "Everyone", "neutral")],
    ),
    "QNLI": (
        "dev.tsv",
        "index\tquestion\tsentence\tlabel\n0\tWhat?\tThis.\tentailment\n1\tWho?\tThat.\tnot_entailment\n",
        [("What?", "This.", "entailment"), ("Who?", "That.", "not_entailment")],
    ),
    "WNLI": (
        "train.tsv",
        "index\tsentence1\tsentence2\tlabel\n0\tI stuck a pin.\tIt.\t1\n1\tB\tC\t0\n",
        [("I stuck a pin.", "It.", "1"), ("B", "C", "0")],
    ),
    "AX": ("diagnostic.tsv", "index\tsentence1\tsentence2\n0\tThe cat.\tIt sat.\n", [("The cat.", "It sat.")]),
}


@pytest.mark.parametrize("name", GLUE)
def test_the_files_of_glue_are_read_as_they_are(tmp_path, name):
    file, content, wanted = GLUE[name]
    assert short(rows_of(tmp_path, file, content)) == wanted


def test_rows_keep_their_number_and_line_and_those_left_out_are_said(tmp_path):
    found = rows_of(tmp_path, *GLUE["QQP"][:2])
    assert [(row.number, row.line) for row in found.rows] == [(0, 2), (2, 4)]
    assert found.notes() == [f"1 row of {found.path} left out, with fewer than the 6 columns of others: line 3"]
    assert found.columns == "text question1, text pair question2, label is_duplicate"
    found = rows_of(tmp_path, *GLUE["MNLI, where annotators did not agree"][:2])
    assert found.notes() == [f"1 row of {found.path} left out, whose label is '-': line 3"]
    many = "text\tlabel\n" + "x\ta\n" + "y\t\n" * 5 + "\t b\n" + "z\ta\textra\n"
    assert [note.rsplit("left out, ", 1)[1] for note in rows_of(tmp_path, "a.tsv", many).notes()] == [
        "with more than the 2 columns of others: line 9",
        "without a label: line 3, 4, 5, ...",
        "without a text: line 8",
    ]


#: The same two rows, which every one of these is.
TWO = [('She said "no", then left', "bad"), ("one\ntwo", "good")]
ROWS = [{"text": text, "label": label} for text, label in TWO]
CSV = 'text,label\n"She said ""no"", then left",bad\n"one\ntwo",good\n'


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", CSV),
        ("a.csv", "\ufeff" + CSV.replace(",bad", ';"bad"').replace("text,", "text;").replace(",good", ";good")),
        ("a.csv", CSV.replace("text,label\n", "")),
        (
            "a.csv.gz",
            gzip.compress(
                CSV.replace('left",', 'left"\t').replace("text,", "text\t").replace('two",', 'two"\t').encode()
            ),
        ),
        ("a.tsv", '\ttext\tlabel\n0\t"She said ""no"", then left"\tbad\n1\t"one\ntwo"\tgood\n'),  # as pandas writes it
        ("a.jsonl", "".join(json.dumps(row) + "\r\n\n" for row in ROWS)),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("a.json", json.dumps({"data": ROWS})),
        ("a.json", json.dumps({"rows": [{"row_idx": 0, "row": row} for row in ROWS]})),
        ("a.json", json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]})),
        ("a", json.dumps(ROWS)),
        ("a.txt.bz2", bz2.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode())),
    ],
)
def test_one_table_in_many_formats(tmp_path, name, content):
    assert short(rows_of(tmp_path, name, content)) == TWO


@pytest.mark.parametrize(
    "name, content, asked, wanted",
    [
        # AG News: the class comes first, and two texts behind it.
        (
            "a.csv",
            '"3","Wall St.","Short-sellers are back"\n"4","Sun","Apple"\n',
            {},
            [("Wall St.", "Short-sellers are back", "3"), ("Sun", "Apple", "4")],
        ),
        ("a.tsv", "a long text\tx\nanother one\ty\n", {}, [("a long text", "x"), ("another one", "y")]),
        ("a.tsv", "1\t2\tmine\tx\n3\t4\tyours\ty\n", {"text": "3", "label": "4"}, [("mine", "x"), ("yours", "y")]),
        ("a.tsv", "Body Text\tkind\nmine\tx\n", {"text": "body text", "label": "kind"}, [("mine", "x")]),
        ("a.tsv", "words\tlabel\nmine\tx\n", {}, [("mine", "x")]),  # what is no label is the text
        (
            "a.tsv",
            "a\tb\nmine\tx\nyours\ty\n",
            {"header": True, "text": "1", "label": "b"},
            [("mine", "x"), ("yours", "y")],
        ),
        ("a.tsv", "text\tlabel\nmore words\ty\n", {"header": False}, [("text", "label"), ("more words", "y")]),
        ("a.tsv", "premise\thypothesis\tlabel\nA\tB\tx\n", {"text": "hypothesis"}, [("B", "x")]),
        ("a.tsv", "sentence\tother\tlabel\nA\tB\tx\n", {"pair": "other"}, [("A", "B", "x")]),
        ("a.txt", "one text\n\nanother, one\n", {}, [("one text",), ("another, one",)]),
        ("a.tsv", "text\tlabel\nA\u2028B\tx\n", {}, [("A\u2028B", "x")]),
        ("a.tsv", "text\tlabel\rA\tx\r", {}, [("A", "x")]),
        # Labels are compared without white space and as whole numbers.
        (
            "a.jsonl",
            '{"text": "a", "label": 1.0}\n{"text": "b", "label": true}\n{"text": "c", "label": " 1 "}\n'
            '{"text": 5, "label": 0}\n',
            {},
            [("a", "1"), ("b", "true"), ("c", "1"), ("5", "0")],
        ),
        (
            "a.jsonl",
            '{"text": "half \\ud83d", "label": "x"}\n{"text": null, "label": "y"}\n{"text": "b", "label": NaN}\n',
            {},
            [("half \ufffd", "x")],
        ),
        # HuggingFace's test sets have -1 for all labels that are kept secret.
        ("a.jsonl", '{"text": "a", "label": -1}\n{"text": "", "label": -1}\n', {}, [("a",), ("",)]),
    ],
)
def test_columns_are_found_by_option_name_or_place(tmp_path, name, content, asked, wanted):
    assert short(rows_of(tmp_path, name, content, **asked)) == wanted


def test_quotes_may_be_said(tmp_path):
    content = 'text\tlabel\n"a"\tx\n'
    assert short(rows_of(tmp_path, "a.tsv", content)) == [('"a"', "x")]
    assert short(rows_of(tmp_path, "a.tsv", content, quoted=True)) == [("a", "x")]
    assert short(rows_of(tmp_path, "a.csv", 'text,label\nsay "a,x\n', quoted=False)) == [('say "a', "x")]


def test_without_labels_all_rows_are_there(tmp_path):
    content = "text\tlabel\na\tx\nb\t-\nc\nd\t\n"
    assert short(rows_of(tmp_path, "a.tsv", content, with_labels=False)) == [("a",), ("b",), ("c",), ("d",)]


@pytest.mark.parametrize(
    "name, content, asked, says",
    [
        ("a.tsv", "", {}, "is empty; give TSV, CSV or JSON lines, with a text and a label in each row"),
        ("a.tsv", b"\x89PNG\xff\xfe", {}, "is not UTF-8 text"),
        ("a.tsv", "text\tlabel\n".encode("utf-16"), {}, "is not UTF-8 text but UTF-16"),
        ("a.parquet", b"PAR1xx", {}, "is not UTF-8 text but a Parquet file"),
        ("a.tsv", "text\tlabel\n", {}, "has a header and no row behind it"),
        ("a.tsv", "text\tlabel\n\t\n", {}, "has a header and no row behind it"),
        ("a.tsv", "text\tlabel\n\tx\ny\tb\textra\n", {}, "has no row that can be used: 1 row of "),
        ("a.tsv", "a\tb\tc\td\n1\t2\t3\t4\n", {}, "has 4 columns and no header that is known: say which is the text"),
        ("a.tsv", "foo\tbar\tlabel\n1\t2\t3\n", {}, "which of its columns is the text? say it with --text_column"),
        ("a.tsv", "text\tlabel\nx\ty\n", {"text": "txet"}, "no such column (did you mean 'text'?); it has text, label"),
        ("a.tsv", "x\ty\n", {"label": "5"}, "no such column; it has no header and 2 columns: give a number from 1"),
        ("a.tsv", "text\tlabel\nx\ty\n", {"text": "1", "pair": "text"}, "one column is asked for twice (text text"),
        ("a.csv", 'text,label\n"a,b\nc,d\n', {}, "the row in line 2 is no CSV (unexpected end of data)"),
        ("a.csv", 'text,label\n"a" b,c\n', {}, "the row in line 2 is no CSV"),
        ("a.jsonl", '{"text": "a"}\n{"text":\n', {}, "is not JSON: it ends in the middle"),
        ("a.jsonl", "[1, 2]", {}, "row 1 is a whole number, it must be an object with a text and a label"),
        ("a.json", "3", {}, "is a whole number; give TSV"),
        ("a.json", '{"text": ["a"], "label": []}', {}, "have different numbers of values"),
        ("a.jsonl", '{"text": {"a": 1}, "label": 1}', {}, "column text in line 1 is an object, it must be text"),
        ("a.jsonl", '{"text": "a", "label": [1, 2]}', {}, "column label in line 1 is several labels; each row has one"),
        ("a.json", "[" * 100000, {}, "is not JSON"),
    ],
)
def test_what_is_broken_is_one_line_that_names_the_file(tmp_path, name, content, asked, says):
    with pytest.raises(UsageError) as error:
        rows_of(tmp_path, name, content, **asked)
    line = str(error.value)
    assert says in line and str(tmp_path / name) in line and "\n" not in line


def test_a_file_that_is_not_there_gets_a_suggestion(tmp_path):
    (tmp_path / "train.tsv").write_text("x")
    with pytest.raises(UsageError, match=r"no file .*/trian.tsv \(did you mean 'train.tsv'\?\)"):
        read_rows(tmp_path / "trian.tsv", ColumnNames())
