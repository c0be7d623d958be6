"""Byte-level BPE from files: the tokens, offsets and texts of transformers 5 (5.24.0 made the literals)."""

import hashlib
import json
from pathlib import Path

import pytest
from byte_bpe import write_byte_bpe

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.text.text_tokenizer import BPETokenizer
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

pytestmark = pytest.mark.fast

TEXTS = [
    "",
    "  ",
    "\n\n\n x",
    "Hello, world!  It's the thing they'll do 123 4567",
    "emoji 😀👩‍👩‍👧 flag 🇩🇪",
    "漢字かな交じり文。中文 테스트",
    "a\r\nb\r\n\r\nc\t\td  \n",
    "é ﬁ ÀÉÎ ß \ufeffq \u200b\u00a0x\u3000y\u2028z",
    "a<|endoftext|>b <mask> c<s>",
    "\x01\x7f" + "x" * 300,
    *json.loads((Path(__file__).parents[2] / "fixtures" / "hostile_text.json").read_text()),
]

#: By tokenizer, ``digest`` with transformers' tokens.
EXPECTED = {
    "GPT2": "db87fc3fd95fde00",
    "PREFIX": "b954bede1baf0d56",
    "NOEND": "d33c51280d332e29",
    "ROBERTA": "781e8a42a7427f3e",
    "NOTRIM": "14fc762254a2edac",
}


def digest(path):
    """Of the tokens, their characters and their text again, for each of the texts."""
    tokenizer = Vocabulary(path).load(special_in_text=True)
    found = []
    for text in TEXTS:
        ids, offsets = tokenizer.encode_with_offsets(text)
        assert ids == tokenizer.encode(text) and [ids] == tokenizer.encode_batch([text])
        found.append([ids, [list(pair) for pair in offsets], tokenizer.decode(ids)])
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


GPT2, ROBERTA = {"tokenizer_class": "GPT2Tokenizer"}, {"tokenizer_class": "RobertaTokenizer"}


@pytest.mark.parametrize(
    "files, expected, roles",
    [
        (dict(settings=GPT2), "GPT2", {"eos": 5, "bos": 5, "unk": 5, "pad": None, "cls": None, "mask": None}),
        (dict(settings={**GPT2, "add_prefix_space": True, "pad_token": "<pad>"}), "PREFIX", {"eos": 5, "pad": 1}),
        (dict(config={"model_type": "gpt2"}), "GPT2", {"eos": 5, "bos": 5, "sep": None}),
        (dict(settings=GPT2, special=()), "NOEND", {"eos": 270}),
        (dict(settings=ROBERTA), "ROBERTA", {"eos": 2, "bos": 0, "cls": 0, "sep": 2, "pad": 1, "unk": 3, "mask": 4}),
        (dict(settings={**ROBERTA, "trim_offsets": False}), "NOTRIM", {"eos": 2, "mask": 4}),
        (dict(config={"model_type": "roberta"}), "ROBERTA", {"eos": 2, "mask": 4}),
    ],
    ids=["gpt2", "prefix", "gpt2 by its model", "end token added", "roberta", "offsets as they are", "by its model"],
)
def test_tokens_offsets_and_texts_are_those_of_transformers(tmp_path, files, expected, roles):
    path = write_byte_bpe(tmp_path / "f", **files)
    assert digest(path) == EXPECTED[expected]
    tokenizer = Vocabulary(path).load()
    assert {role: tokenizer.special_id(role) for role in roles} == roles and tokenizer.notes == []
    assert not tokenizer.has_segments


def test_a_vocabulary_alone_has_the_roles_of_the_tokens_that_it_has(tmp_path):
    tokenizer = Vocabulary(write_byte_bpe(tmp_path / "f") / "vocab.json").load()
    roles = {role: tokenizer.special_id(role) for role in ("eos", "cls", "sep", "pad", "mask")}
    assert roles == {"eos": 5, "cls": 0, "sep": 2, "pad": 1, "mask": 4}
    assert Vocabulary.beside(tmp_path / "f").load().tokens == tokenizer.tokens
    assert Vocabulary(write_byte_bpe(tmp_path / "g", special=["</s>"])).load().special_id("eos") == 0


def test_a_tokenizer_json_of_bpe_is_followed_as_it_is(tmp_path):
    by_files = Vocabulary(write_byte_bpe(tmp_path / "f", GPT2))
    (tmp_path / "tokenizer.json").write_text(by_files.load().to_json(), encoding="utf-8")
    whole = Vocabulary(tmp_path / "tokenizer.json").load(special_in_text=True)
    assert isinstance(whole, BPETokenizer) and whole.special_id("eos") == 5
    assert [whole.encode(text) for text in TEXTS] == [by_files.load(True).encode(text) for text in TEXTS]


def test_what_is_in_a_text_is_no_special_token_and_comes_back(tmp_path):
    tokenizer = Vocabulary(write_byte_bpe(tmp_path / "f", GPT2)).load()
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and not set(ids) & set(tokenizer.special_ids)
    assert tokenizer.decode([5, *tokenizer.encode("the"), 5]) == "the"
    assert tokenizer.decode(tokenizer.encode("😀")[:1]) == "\ufffd"


def test_a_long_text_is_encoded_in_pieces_that_change_nothing(tmp_path, monkeypatch):
    from pipeloom.plugins.libraries.text import text_tokenizer

    tokenizer = Vocabulary(write_byte_bpe(tmp_path / "f", GPT2)).load()
    text = " ".join(TEXTS) * 2
    whole = tokenizer.encode_with_offsets(text)[0]
    for size in range(1, 60):
        monkeypatch.setattr(text_tokenizer, "_PIECE", size)
        assert tokenizer.encode(text) == whole


@pytest.mark.parametrize(
    "damage, says",
    [
        (
            lambda path: (path / "merges.txt").unlink(),
            "made from vocab.json and merges.txt, and one of them is missing",
        ),
        (lambda path: (path / "merges.txt").write_bytes(b"\xff\xfe"), "merges.txt: it is not UTF-8 text"),
        (lambda path: (path / "merges.txt").write_text("a b c\n"), "merges.txt: .'a', 'b', 'c'. is no pair of tokens"),
        (
            lambda path: (path / "merges.txt").write_text("q zz\n"),
            "vocab.json and merges.txt: it has no byte-level BPE",
        ),
        (lambda path: (path / "vocab.json").write_text("{}"), "vocab.json: it must have an id"),
        (lambda path: (path / "vocab.json").write_text('{"a": "b"}'), "vocab.json: it must have an id"),
        (lambda path: (path / "vocab.json").write_text("[1]"), "vocab.json: it must be a JSON object"),
        (
            lambda path: (path / "vocab.json").write_text('{"a": 99999999}'),
            "it has a token with the id|no byte-level BPE",
        ),
    ],
)
def test_what_cannot_be_followed_is_one_line(tmp_path, damage, says):
    damage(write_byte_bpe(tmp_path / "f"))
    with pytest.raises(UsageError, match=says):
        Vocabulary(tmp_path / "f").load()


def test_bytes_without_a_token_are_said(tmp_path):
    path = write_byte_bpe(tmp_path / "f", GPT2)
    ids = json.loads((path / "vocab.json").read_text(encoding="utf-8"))
    ids["<other>"] = ids.pop("z")
    (path / "vocab.json").write_text(json.dumps(ids))
    assert "1 of the 256 bytes have no token" in Vocabulary(path).load().notes[0]


def test_bert_refuses_it(tmp_path):
    with pytest.raises(UsageError, match="its tokens are those of BPE; WordPieces are needed here"):
        WordPieceTokenizer.load(write_byte_bpe(tmp_path / "f", GPT2))
    with pytest.raises(UsageError, match="--lowercase has no effect on"):
        Vocabulary(tmp_path / "f", lowercase=True).load()
