"""What an input file is, by its content: read as what it is, or refused by name; markup in text is said."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
import types
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.corpus.documents import DocumentReader, ReadingSettings, SentenceDocument, TextDocument
from pipeloom.plugins.libraries.corpus.inputs import find_inputs
from pipeloom.plugins.libraries.corpus.sentences import SentenceSplitter
from pipeloom.plugins.libraries.corpus.streams import BadInput

pytestmark = pytest.mark.fast

PROSE = "The cat sat on the mat. It was a good day.\n"


def read(tmp_path: Path, content, name: str = "a", **settings):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    counts: Counter = Counter()
    return list(DocumentReader(tmp_path / name, ReadingSettings(**settings), counts)), dict(counts)


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "application/epub+zip" if name == "mimetype" else PROSE)
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize(
    "content, what",
    [
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF file"),
        (zipped("a.txt"), "a zip archive"),
        (zipped("mimetype"), "an EPUB book"),
        (zipped("[Content_Types].xml", "word/document.xml"), "a Word document"),
        (tar(), "a tar archive"),
        (gzip.compress(tar()), "a tar archive"),
        (gzip.compress(gzip.compress(b"text")), "compressed twice"),
        (b"PAR1\x15\0\xff\xfe" * 9, "a Parquet file"),
        (b"SQLite format 3\0\x10\0", "an SQLite database"),
        (b"{\\rtf1\\ansi text}", "an RTF file"),
        (b"\0" * 999, "a file of NUL bytes"),
        (PROSE.encode("utf-16"), "UTF-16;"),
        (PROSE.encode("utf-16-be"), "UTF-16; convert it: iconv -f UTF-16BE"),
        (PROSE.encode("utf-32"), "UTF-32"),
        ("caf\u00e9 is not na\u00efve\n".encode("latin-1"), "another encoding"),
        ("\u8fd9\u662f\u4e2d\u6587\u3002".encode("gbk") * 30, "another encoding"),
        (bytes(range(1, 32)) * 9, "binary data"),
        ('id,text\n1,"Tea is a drink. It is hot."\n2,"Coffee, too."\n', "a table of comma-"),
        ("1\teng\tTea.\n" * 4, "a table of comma- or tab-separated"),
        ("<!DOCTYPE html>\n<html><body>Tea</body></html>", "an HTML page"),
        ("<p>Tea.</p>", "an HTML page"),
        ('<?xml version="1.0"?>\n<feed><doc><title>x</title></doc></feed>', "XML with the root <feed>"),
        ("<text><s>Tea.</s></text>\n", "markup that begins"),
        ("-- dump\nCREATE TABLE `page` (\n", "an SQL dump"),
        ("1\n00:00:01,000 --> 00:00:02,000\nTea.\n", "subtitles"),
        ("WEBVTT\n\n", "subtitles"),
        ("From a@b Thu Jan 1\nFrom: a@b\nTo: c\nSubject: tea\n\nTea.\n", "e-mail"),
        ("% x\n\\documentclass{article}\n", "LaTeX source"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "a pointer of Git LFS"),
        ("616:10:Tea\n616:12:Coffee\n", "the index of a multistream"),
    ],
)
def test_what_is_no_text_is_refused_by_name(tmp_path, content, what):
    with pytest.raises(UsageError, match="a is ") as caught:
        read(tmp_path, content)
    assert what in str(caught.value)
    (tmp_path / "b").write_text(PROSE)
    with pytest.raises(UsageError, match="^--input: .*a is .*--bad_input skip"):
        find_inputs([str(tmp_path)], ReadingSettings())
    assert len(find_inputs([str(tmp_path)], ReadingSettings(skip_bad=True))) == 1


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "Yes, he said.\nNo, she said.\nWell, it was so.\n",
        "[1] A note. [2] Another.\n",
        "{Chapter one}\nIt began.\n",
        "[[it]] is so.\n",
        "ORCHARDS are green.\n",
        "RIFFs were played.\n",
        "From: where did it come? Nobody knew.\n",
        '"Well," he said.\n',
        "<3 is a heart.\n",
        "1 apple\n2 pears\n",
        "Dear; dear; dear\nOh; no\n",
        "damaged \xff here, and \u6f22\u5b57 whole.\n",
    ],
)
def test_what_is_text_is_read_as_text(tmp_path, text):
    documents, _ = read(tmp_path, text.encode("utf-8").replace("\xff".encode(), b"\xff"))
    assert len(documents) == 1 and isinstance(documents[0], TextDocument)


# --- WikiExtractor

EXTRACTED = """<doc id="12" url="https://en.wikipedia.org/wiki?curid=12" title="Tea &amp; milk">
Tea & milk

Tea is &lt;b&gt;hot&lt;/b&gt;&amp;nbsp;and a &lt;br&gt;drink.
The sum is formula_3photon here. It has <a href="x">leaves</a>.
* An item of a list.

</doc>
<doc id="13" url="https://en.wikipedia.org/wiki?curid=13" title="Empty">

</doc>
"""


def test_a_doc_of_wikiextractor_is_a_document_without_its_title_and_tags(tmp_path):
    documents, counts = read(tmp_path, EXTRACTED)
    assert [document.title for document in documents] == ["Tea & milk", "Empty"] and counts == {}
    sentences = SentenceSplitter("en", 0)
    left_out: Counter = Counter()
    assert sentences(documents[0], left_out) == ["Tea is hot and a drink.", "It has leaves."]
    assert left_out == {"sentences with a formula or code": 1, "paragraphs with markup that cannot be read": 1}
    assert sentences(documents[1], left_out) == [] and left_out["documents without text"] == 1
    line = json.dumps(
        {
            "id": "12",
            "revid": "1",
            "url": "https://en.wikipedia.org/wiki?curid=12",
            "title": "Tea",
            "text": "A &lt;i&gt;cup&lt;/i&gt;.",
        }
    )
    assert sentences(read(tmp_path, line)[0][0], left_out) == ["A cup."]


@pytest.mark.parametrize(
    "content, says",
    [
        (EXTRACTED[:-8], "the file ends inside of the <doc> 'Empty'"),
        (EXTRACTED.replace("</doc>", "", 1), "a <doc> begins inside of another one, 'Tea & milk'"),
    ],
)
def test_a_doc_without_an_end_is_damage(tmp_path, content, says):
    with pytest.raises(BadInput, match=says):
        read(tmp_path, content)
    assert len(read(tmp_path, content, skip_bad=True)[1]) == 1


def test_a_long_doc_is_left_out(tmp_path):
    documents, counts = read(tmp_path, EXTRACTED.replace("Tea is", "Tea " * 500 + "is"), longest=1000)
    assert [document.title for document in documents] == ["Empty"] and counts == {
        "pages longer than --max_characters": 1
    }


# --- JSON

OBJECTS = [{"text": "One. Two."}, {"text": ["A b.", "C d."]}]
READ = [TextDocument(("One. Two.",)), SentenceDocument(("A b.", "C d."))]


@pytest.mark.parametrize(
    "content, documents",
    [
        (json.dumps(OBJECTS), READ),
        (json.dumps(OBJECTS, indent=2), READ),
        ("\n".join(json.dumps(one, indent=1) for one in OBJECTS), READ),
        ("".join(json.dumps([one]) for one in OBJECTS), READ),
        ("\ufeff" + json.dumps(OBJECTS) + "\r\n", READ),
        ("[]\n", []),
        (json.dumps(["One. Two.", ["A b.", "C d."]]), READ),
        ("\n".join("\ufeff" + json.dumps(one) for one in OBJECTS), READ),
        (
            json.dumps({"index": {"_type": "page", "_id": "1"}})
            + '\n{"namespace": 0, "text": "One. Two."}\n'
            + json.dumps({"index": {"_type": "page", "_id": "2"}})
            + '\n{"namespace": 4, "text": "Talk."}\n',
            READ[:1],
        ),
    ],
)
@pytest.mark.parametrize("piece", [1, 1 << 18])
def test_json_in_all_its_shapes(tmp_path, monkeypatch, content, documents, piece):
    monkeypatch.setattr("pipeloom.plugins.libraries.corpus.streams._PIECE", piece)
    assert read(tmp_path, content)[0] == documents


@pytest.mark.parametrize(
    "content, says",
    [
        (
            '{"id": 7, "content": "Tea is hot."}',
            r'line 1: is no JSON object with "text" .*; it has id, content: perhaps --text_key content;',
        ),
        ('{"meta": {"body": "Tea is hot."}}', "perhaps --text_key meta.body"),
        ('{"text": 5}', '; its "text" is a number;'),
        ('{"text": null}', "is null"),
        ('{"text": {"a": "b"}}', "is an object"),
        ('[{"text": "One."},\n {"text": tru]', "element 2: no well-formed JSON"),
        ('[{"text": "One."},', "the file ends inside a JSON array"),
        ('[["a", 1]]', "element 1: .*it is a list of other things than strings"),
    ],
)
def test_json_without_text_says_what_there_is(tmp_path, content, says):
    with pytest.raises(BadInput, match=says):
        read(tmp_path, content)
    assert sum(read(tmp_path, content, skip_bad=True)[1].values()) == 1


def test_another_key_has_the_text(tmp_path):
    for key in ("content", "data.body"):
        record = {"content": "One.", "text": "no", "data": {"body": "One."}}
        assert read(tmp_path, json.dumps(record), text_key=key)[0] == [TextDocument(("One.",))]


# --- plain text


def test_lines_and_sentences_are_documents_and_sentences(tmp_path):
    text = "One. Two.\nThree.\n\n\n\nFour.\n"
    assert read(tmp_path, text, text_documents="lines")[0] == [
        TextDocument((line,)) for line in ("One. Two.", "Three.", "Four.")
    ]
    cut = [SentenceDocument(("One. Two.", "Three.")), SentenceDocument(("Four.",))]
    for end in ("\n", "\r\n", "\r"):
        assert read(tmp_path, text.replace("\n", end), text_documents="sentences")[0] == cut
    assert read(tmp_path, text, text_documents="sentences", longest=12)[1] == {"documents cut at --max_characters": 1}


def test_a_book_of_project_gutenberg_is_without_its_licence(tmp_path):
    book = (
        "The Project Gutenberg eBook of Tea\n\n*** START OF THE PROJECT GUTENBERG EBOOK TEA ***\n{}\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK TEA ***\nLicence.\n"
    )
    documents, counts = read(tmp_path, book.format("One.") + book.format("Two."))
    assert documents == [TextDocument(("One.", "Two."))]
    assert counts == {"licences of Project Gutenberg around a book": 2}


def test_nul_characters_are_left_out_and_counted(tmp_path, capsys):
    assert read(tmp_path, PROSE.replace("cat", "c\0at") * 9 + "\0" * 5000)[1] == {"NUL characters": 5009}
    assert "a: 5,009 NUL characters" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, kind",
    [
        ("He is <b>here</b>.", "HTML or XML tags"),
        ("Fish &amp; chips.", "entities of HTML"),
        ("A [[link]] of it.", "wikitext"),
        ('{"text": "x"}', "JSON"),
        ("# A title", "Markdown"),
        (r"As in \cite{x}.", "LaTeX"),
    ],
)
def test_markup_in_text_is_said_with_the_file_and_a_line_of_it(tmp_path, capsys, line, kind):
    documents, counts = read(tmp_path, PROSE * 20 + line + "\n")
    assert len(documents) == 1 and counts == {"lines with markup, kept as they are": 1, "files with markup in them": 1}
    said = capsys.readouterr().err
    assert (
        f"a: 1 of 21 lines of text look like markup ({kind}), for instance line 21: {line}; they are kept as they are"
    ) in said
    read(tmp_path, json.dumps({"text": line}))
    assert kind in capsys.readouterr().err


def test_source_code_is_said_and_verse_is_not(tmp_path, capsys):
    assert "files with markup in them" in read(tmp_path, "def f(x):\n    return x\n\n\n")[1]
    assert "source code" in capsys.readouterr().err
    assert (
        read(tmp_path, "Shall I compare thee;\nto a summer's day?\nThou art;\nmore lovely and\nmore temperate.\n")[1]
        == {}
    )


def test_only_some_files_are_named(tmp_path, capsys):
    counts: Counter = Counter()
    (tmp_path / "a").write_text("He is <b>here</b>.\n")
    for _ in range(30):
        list(DocumentReader(tmp_path / "a", ReadingSettings(), counts))
    assert capsys.readouterr().err.count("\n") == 11 and counts["files with markup in them"] == 30


def test_zstd_is_read_by_its_library_or_asked_for(tmp_path, monkeypatch):
    """The library is an extra: here one stands in that says what it was asked."""
    content = b"\x28\xb5\x2f\xfd" + PROSE.encode()
    monkeypatch.setitem(sys.modules, "backports", None)
    with pytest.raises(
        UsageError, match="a is compressed by zstd, which needs the package backports.zstd: pip install backports.zstd"
    ):
        read(tmp_path, content)
    asked = []
    zstd = types.SimpleNamespace(
        ZstdFile=lambda file, options: asked.append((file.read(), options)) or io.BytesIO(PROSE.encode()),
        DecompressionParameter=types.SimpleNamespace(window_log_max="window"),
    )
    monkeypatch.setitem(sys.modules, "backports", types.SimpleNamespace(zstd=zstd))
    assert read(tmp_path, content)[0] == [TextDocument((PROSE.strip(),))] and asked == [(content, {"window": 31})]
