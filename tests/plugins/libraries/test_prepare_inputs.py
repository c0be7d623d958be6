"""Reading what a preparation gets: dumps, JSON lines and text, plain or compressed, whole or damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections import Counter
from pathlib import Path

import pytest
from shared_data import shared

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.corpus.documents import DocumentReader, ReadingSettings, SentenceDocument, TextDocument
from pipeloom.plugins.libraries.corpus.inputs import find_inputs
from pipeloom.plugins.libraries.corpus.sentences import Chunk, TextSettings, Tokenizing
from pipeloom.plugins.libraries.corpus.streams import BadInput, InputStream
from pipeloom.plugins.libraries.corpus.wiki_dump import WikiPage

pytestmark = pytest.mark.fast

DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">
<siteinfo><namespaces><namespace key="0" />\
<namespace key="6">Datei</namespace><namespace key="14">Kategorie</namespace></namespaces></siteinfo>
<page><title>First</title><ns>0</ns><revision><text>Old.</text></revision>\
<revision><text>The &lt;b&gt;first&lt;/b&gt; text.</text></revision></page>
<page><title>Talk:First</title><ns>1</ns><revision><text>Chatter.</text></revision></page>
<page><title>Other name</title><ns>0</ns><redirect title="First" />\
<revision><text>#REDIRECT [[First]]</text></revision></page>
<page><title>Old redirect</title><ns>0</ns><revision><text>#redirect [[First]]</text></revision></page>
<page><title>Long</title><ns>0</ns><revision><text>{long}</text></revision></page>
<page><title>Last</title><ns>0</ns><revision><text>The last &amp; least.</text></revision></page>
</mediawiki>""".replace("{long}", "word " * 300)


def read(path: Path, **settings):
    counts: Counter = Counter()
    return list(DocumentReader(path, ReadingSettings(**settings), counts)), dict(counts)


def test_a_dump_gives_its_articles(tmp_path):
    (tmp_path / "dump.xml").write_text(DUMP)
    documents, counts = read(tmp_path / "dump.xml", longest=1000)
    aside = ("datei", "kategorie")
    assert documents == [
        WikiPage("First", "The <b>first</b> text.", aside),
        WikiPage("Last", "The last & least.", aside),
    ]
    assert counts == {"pages of other namespaces": 1, "redirects": 2, "pages longer than --max_characters": 1}


@pytest.mark.parametrize(
    "compress",
    [bz2.compress, gzip.compress, lzma.compress, lambda data: bz2.compress(data[:200]) + bz2.compress(data[200:])],
)
def test_compression_is_told_by_content_and_may_come_in_several_streams(tmp_path, compress):
    (tmp_path / "dump").write_bytes(compress(DUMP.encode()))
    assert [page.title for page in read(tmp_path / "dump")[0]] == ["First", "Long", "Last"]


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress, lzma.compress])
def test_what_came_before_the_damage_can_be_had(tmp_path, compress):
    data = compress(
        "".join(
            f"<page><title>{number}</title><revision><text>{'x' * 300}</text></revision></page>\n"
            for number in range(9)
        )
        .join(["<mediawiki>", "</mediawiki>"])
        .encode()
    )
    for name, content, says in (("cut", data[:-9], "ends inside its compressed data"), ("whole", data, "")):
        path = tmp_path / name
        path.write_bytes(content)
        if says:
            with pytest.raises(BadInput, match=says):
                read(path)
        documents, counts = read(path, skip_bad=True)
        assert len(documents) <= 9 and len(counts) == (1 if says else 0)


@pytest.mark.parametrize(
    "content, says",
    [
        (DUMP[:-20], "line 8: no well-formed XML"),
        (DUMP.replace("</revision></page>", "</page>", 1), "line 3: no well-formed XML .mismatched tag"),
        ('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><mediawiki>&a;</mediawiki>', "declares the entity 'a'"),
    ],
)
def test_broken_xml_is_one_line(tmp_path, content, says):
    path = tmp_path / "dump.xml"
    path.write_text(content)
    with pytest.raises(BadInput, match=says):
        read(path)
    documents, counts = read(path, skip_bad=True)
    assert sum(counts.values()) >= 1 and "damaged inputs" in " ".join(counts)


def test_bytes_that_are_no_text_are_counted_and_marked(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"Before \xff\xfe after, \xe6\xbc\xa2 whole.\n\n\xc3")
    documents, counts = read(tmp_path / "a.txt")
    assert documents == [TextDocument(("Before \ufffd after, 漢 whole.", "\ufffd"))]
    assert counts == {"places that are no UTF-8, U+FFFD put there": 2}


def test_a_character_may_lie_across_two_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeloom.plugins.libraries.corpus.streams._PIECE", 1)
    (tmp_path / "a").write_text("\ufeffdéjà\r\nvu 漢\n", encoding="utf-8")
    stream = InputStream(tmp_path / "a")
    assert list(stream.lines(100)) == ["déjà", "vu 漢"] and stream.replaced == 0


def test_text_is_cut_into_documents_as_one_asks(tmp_path):
    (tmp_path / "a.txt").write_text("One line\nwrapped here.\n\n \nA second paragraph.\n")
    paragraphs = ("One line wrapped here.", "A second paragraph.")
    assert read(tmp_path / "a.txt")[0] == [TextDocument(paragraphs)]
    assert read(tmp_path / "a.txt", text_documents="blank_lines")[0] == [
        TextDocument((paragraph,)) for paragraph in paragraphs
    ]


def test_a_document_longer_than_memory_allows_is_cut(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 5000 + "\n\n" + "line of text.\n" * 500)
    documents, counts = read(tmp_path / "a.txt", longest=2000)
    assert max(document.characters for document in documents) <= 2000
    assert sum(document.characters for document in documents) >= 31000 - 50
    assert counts == {"documents cut at --max_characters": len(documents) - 1}


def test_json_lines_have_text_or_sentences(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "One. Two.\\n\\nThree.", "id": 1}\n\n{"text": ["A b.", "C d."]}\n{"no": 1}\n[]\nnonsense\n'
    )
    with pytest.raises(BadInput, match='a.jsonl line 4: is no JSON object with "text"'):
        read(path)
    documents, counts = read(path, skip_bad=True)
    assert documents == [TextDocument(("One. Two.", "Three.")), SentenceDocument(("A b.", "C d."))]
    assert counts == {'lines that are no JSON object with "text"': 3}


def test_no_document_breaks_a_worker(tmp_path):
    """Halves of characters, signs that wikitext's parser knows, no letters, nothing."""
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "."]) + "\n")
    documents = [
        TextDocument(("a \ud800 a. a.",)),
        SentenceDocument(("a \udfff.", "", " ")),
        WikiPage("x", "a &#xD800; a. \ue000 a.\n{{" * 50, ()),
        TextDocument(("...",)),
        TextDocument(()),
        SentenceDocument(("\u200b",)),
        TextDocument(("\0\ufffe a",)),
    ]
    made = Tokenizing(TextSettings(tmp_path / "vocab.txt", min_characters=0))(Chunk(0, documents))
    assert (
        made.read == len(documents)
        and made.document_sizes.sum() == len(made.sentence_sizes)
        and made.sentence_sizes.sum() == len(made.tokens)
    )
    assert len(made.document_sizes) + sum(
        count for what, count in made.counts.items() if what.startswith("documents")
    ) == len(documents)


@pytest.mark.parametrize("content", ["Some text.".encode("utf-16"), b"\x7fELF\0\0\1"])
def test_what_is_no_text_is_one_line(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UsageError, match="is no UTF-8 text"):
        read(tmp_path / "a")
    documents, counts = read(tmp_path / "a", skip_bad=True)
    assert documents == [] and re.fullmatch(r"files that are no text \((UTF-16|a program \(ELF\))\)", "".join(counts))


def test_an_empty_file_is_counted(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert read(tmp_path / "a") == ([], {"empty files": 1})


def test_inputs_are_one_for_each_folder_or_one_for_each_weight(tmp_path):
    for name in ("wiki.xml", "books/a.txt", "books/b.txt", "c:0.5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    wiki, books, colon = str(tmp_path / "wiki.xml"), str(tmp_path / "books" / "*.txt"), str(tmp_path / "c:0.5")
    settings = ReadingSettings()
    assert [[file.name for file in one.files] for one in find_inputs([wiki, books, colon], settings)] == [
        ["wiki.xml", "c:0.5"],
        ["a.txt", "b.txt"],
    ]
    weighted = find_inputs([f"{wiki}:3", f"{books}:1"], settings)
    assert [(len(one.files), one.weight) for one in weighted] == [(1, 0.75), (2, 0.25)]
    for arguments, says in (
        ([f"{wiki}:1", books], "has no weight and others have"),
        ([f"{wiki}:0"], "must be a number above 0"),
        ([f"{wiki}:nan"], "must be a number above 0"),
        ([wiki, wiki], "is there twice"),
        ([str(tmp_path), wiki], "is there twice"),
        ([str(tmp_path / "wikki.xml")], "did you mean 'wiki.xml'"),
    ):
        with pytest.raises(UsageError, match=says):
            find_inputs(arguments, settings)


def test_a_folder_is_one_input_of_all_its_files(tmp_path):
    """As WikiExtractor and Spark write them."""
    for name in (
        "out/AB/wiki_00",
        "out/AA/wiki_01",
        "out/AA/wiki_00",
        "out/_SUCCESS",
        "out/.part.crc",
        "empty/.hidden",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (found,) = find_inputs([f"{tmp_path}/out/"], ReadingSettings())
    assert [str(file.relative_to(tmp_path)) for file in found.files] == [
        "out/AA/wiki_00",
        "out/AA/wiki_01",
        "out/AB/wiki_00",
    ]
    with pytest.raises(UsageError, match="is a folder without files"):
        find_inputs([str(tmp_path / "empty")], ReadingSettings())


def test_the_real_dump_has_106_articles():
    documents, counts = read(shared("wiki_dump/enwiki-sample-pages-articles.xml.bz2"))
    assert len(documents) == 106 and counts == {"redirects": 99, "pages of other namespaces": 1}
    assert documents[0].title == "Anarchism" and documents[0].aside == ("file", "category")
