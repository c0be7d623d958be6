"""``prepare tokens``: what is in the folder, that it is the same however it came about, and what users get wrong; token
folders in ``prepare validate`` and ``prepare inspect``.
"""

import bz2
import json
import re
import signal

import pytest
from byte_bpe import write_byte_bpe
from preparations import digest, write_texts

from pipeloom.core.commands.cli import main
from pipeloom.core.launch.control.signals import Signals
from pipeloom.plugins.libraries.corpus import sentences
from pipeloom.plugins.libraries.preparation import journal
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder

pytestmark = pytest.mark.fast

GPT2 = {"tokenizer_class": "GPT2Tokenizer"}
DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" xml:lang="en">
<page><title>Rose</title><ns>0</ns><id>1</id><revision><id>1</id><text xml:space="preserve">A '''rose''' is a [[plant]].
It has thorns of {{unknown thing|5}} length. It smells.

== Names ==
Its name is Latin.</text></revision></page>
<page><title>Flower</title><ns>0</ns><id>2</id><redirect title="Rose" /><revision><id>2</id>
<text xml:space="preserve">#REDIRECT [[Rose]]</text></revision></page>
</mediawiki>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    write_byte_bpe(folder / "vocab", GPT2)
    write_texts(folder)
    return folder


def arguments(site, out, *more, inputs=("a.jsonl", "books")):
    given = ["--input", *(str(site / name) for name in inputs), "--vocab", str(site / "vocab"), "--output", str(out)]
    return ["prepare", "tokens", *given, *([] if "--workers" in more else ["--workers", "0"]), *more]


def texts(folder):
    tokens, tokenizer = TokenFolder.open(folder), Vocabulary.beside(folder).load()
    return [tokenizer.decode(tokens.document(number).tolist()) for number in range(len(tokens))]


def test_documents_are_there_as_they_were(site, tmp_path, capsys):
    assert main(arguments(site, tmp_path / "out")) == 0
    found = texts(tmp_path / "out")
    documents = [json.loads(line)["text"] for line in (site / "a.jsonl").read_text().splitlines()]
    assert found[:9] == [" ".join(document) for document in documents]
    assert found[9:] == [path.read_text().strip("\n") for path in sorted((site / "books").iterdir())]
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert (meta["documents"], [source["files"] for source in meta["sources"]]) == (len(found), [1, 13])
    assert Vocabulary.beside(tmp_path / "out").digest() == Vocabulary(site / "vocab").digest()
    assert f"tokens in {len(found)} documents" in capsys.readouterr().out
    assert main(arguments(site, tmp_path / "out")) == 0
    assert "is there already, made of the same text" in capsys.readouterr().out
    assert main(arguments(site, tmp_path / "out", "--min_characters", "9")) == 2
    assert "made with --min_characters 0, here it is 9" in capsys.readouterr().err


def test_a_dump_of_a_wiki_becomes_paragraphs(site, tmp_path, capsys):
    (tmp_path / "dump.xml.bz2").write_bytes(bz2.compress(DUMP.encode()))
    assert main(arguments(tmp_path, tmp_path / "out", "--vocab", str(site / "vocab"), inputs=["dump.xml.bz2"])) == 0
    assert texts(tmp_path / "out") == ["A rose is a plant. It smells.\n\nIts name is Latin."]
    said = capsys.readouterr().out
    assert "1 redirects" in said and "1 sentences with a template" in said and "{{unknown thing}} 1" in said


def test_it_is_the_same_however_often_it_was_interrupted(site, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_KEEP_SECONDS", 0)
    monkeypatch.setattr(sentences, "_CHUNK_CHARACTERS", 1000)
    assert main(arguments(site, tmp_path / "whole")) == 0
    check, calls = Signals.check, [0]

    def stop_at_26(self):
        calls[0] += 1
        self.count, self.number = int(calls[0] >= 26), signal.SIGTERM
        check(self)

    monkeypatch.setattr(Signals, "check", stop_at_26)
    codes = []
    while not codes or codes[-1] != 0:
        calls[0] = 0
        codes.append(main(arguments(site, tmp_path / "out")))
        assert (tmp_path / "out").exists() == (codes[-1] == 0) and len(codes) < 50
    assert len(codes) >= 2 and set(codes[:-1]) == {128 + signal.SIGTERM}
    assert digest(tmp_path / "out") == digest(tmp_path / "whole")


def test_a_crash_at_any_write_of_the_end_is_mended(site, tmp_path, monkeypatch):
    class Died(BaseException):
        pass

    point, first = 0, None
    while True:
        seen = []

        def crossing(name, seen=seen, last=point + 1):
            if "tokens.json" in name or "meta.json" in name:
                seen.append(name)
            if len(seen) == last:
                raise Died(name)

        monkeypatch.setattr("pipeloom.core.base.files.crossing", crossing)
        out = tmp_path / str(point)
        try:
            main(arguments(site, out, inputs=["books/german.txt"]))
        except Died:
            monkeypatch.setattr("pipeloom.core.base.files.crossing", lambda name: None)
            assert main(arguments(site, out, inputs=["books/german.txt"])) == 0
        first = first or digest(out)
        assert digest(out) == first and not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        if len(seen) <= point:
            break
        point += 1
    assert point > 6


@pytest.mark.parametrize(
    "more, inputs, code, says",
    [
        ([], ["a.jsonl:0.5", "books:0.5"], 2, "tokens have no shares; make a folder of each input"),
        ([], ["empty.txt"], 2, "--input: no document with text in .*empty.txt"),
        ([], ["latin.txt"], 2, "latin.txt is no UTF-8 text"),
        ([], ["none.txt"], 2, "--input: no file .*none.txt"),
        (["--vocab", "nowhere"], ["books"], 2, "cannot read the vocabulary nowhere"),
        (["--lowercase", "true"], ["books"], 2, "--lowercase has no effect on .*byte-level BPE keeps text"),
    ],
    ids=["weights", "no text", "another encoding", "no file", "no vocabulary", "lowercase"],
)
def test_what_users_get_wrong_is_one_line(site, tmp_path, capfd, more, inputs, code, says):
    (site / "empty.txt").write_text("")
    (site / "latin.txt").write_bytes("é".encode("latin-1") * 99)
    assert main(arguments(site, tmp_path / "out", *more, inputs=inputs)) == code
    said = capfd.readouterr().err
    assert re.search(says, said) and said.count("pipeloom: error") == 1 and not (tmp_path / "out").exists()


def test_a_vocabulary_without_an_end_is_said(site, tmp_path, capsys):
    assert main(arguments(site, tmp_path / "out", "--vocab", str(site / "vocab.txt"), inputs=["books"])) == 0
    assert "vocab.txt has no token that ends a text" in capsys.readouterr().err


def test_validate_reads_every_token(site, tmp_path, capsys):
    assert main(arguments(site, tmp_path / "out", inputs=["books"])) == 0
    assert main(["prepare", "validate", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "tokens in 13 documents; all are as they should be" in said and "of its 276 tokens occur" in said
    tokens = tmp_path / "out" / "tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-1] + b"\xff")
    assert main(["prepare", "validate", str(tmp_path / "out")]) == 2
    assert "tokens.bin is damaged at tokens 0 to" in capsys.readouterr().err


def test_inspect_shows_documents(site, tmp_path, capsys):
    assert main(arguments(site, tmp_path / "out", inputs=["books"])) == 0
    capsys.readouterr()
    assert main(["prepare", "inspect", str(tmp_path / "out"), "--record", "12", "--count", "5"]) == 0
    said = capsys.readouterr().out
    assert "document 12, " in said and "Er kam am 3. Mai nach Rom." in said
    assert main(["prepare", "inspect", str(tmp_path / "out"), "--record", "13"]) == 2
    assert "has no document 13; it has 13, numbered from 0" in capsys.readouterr().err
