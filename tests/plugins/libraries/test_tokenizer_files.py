"""Tokenizer files of HuggingFace folders: the tokens are those of transformers 5 (literals were taken from 5.24.0),
or one line says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.text.tokenization import WordPieceTokenizer

pytestmark = pytest.mark.fast

WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] hello world ##s m ##o café cafe [ ] mask Hello foo ##bar <s> </s> <unk> <pad> "
    "<mask> a ##a 中 文 中文"
).split()
TEXT = "Hello café [MASK] [mask] foobar 中文"
HOSTILE = json.loads((Path(__file__).parents[2] / "fixtures" / "hostile_text.json").read_text())


VOCABULARY = "\n".join(WORDS) + "\n"


def folder(path, vocab=VOCABULARY, **files):
    """A folder with vocab.txt and, by the first part of their names, JSON files."""
    names = {
        "settings": "tokenizer_config.json",
        "names": "special_tokens_map.json",
        "added": "added_tokens.json",
        "pipeline": "tokenizer.json",
        "config": "config.json",
    }
    path.mkdir(exist_ok=True)
    if vocab is not None:
        (path / "vocab.txt").write_bytes(vocab if isinstance(vocab, bytes) else vocab.encode())
    for name, content in files.items():
        (path / names[name]).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def pieces(path, text=TEXT):
    """What the tokenizer in ``path`` makes of a text, as tokens."""
    tokenizer = WordPieceTokenizer.load(path, special_in_text=True)
    return " ".join(tokenizer.tokens[number] for number in tokenizer.encode(text))


def pipeline(**changes):
    """A tokenizer.json that keeps accents and capitals, with an added token and what must not be heeded: truncation
    and padding."""

    def added(number, content, **more):
        return {
            "id": number,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
            **more,
        }

    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 15},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": [
            *(added(number, WORDS[number]) for number in range(5)),
            added(len(WORDS), "foobar", normalized=True, special=False),
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": False,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: number for number, word in enumerate(WORDS)},
        },
        **changes,
    }


@pytest.mark.parametrize("setting", HOSTILE["right"])
def test_hostile_texts_have_the_tokens_and_offsets_of_transformers(tmp_path, setting):
    path = folder(
        tmp_path / "f", "".join(word + "\n" for word in HOSTILE["vocabulary"]), settings=HOSTILE["settings"][setting]
    )
    tokenizer = WordPieceTokenizer.load(path, special_in_text=True)
    for text, (ids, offsets) in zip(HOSTILE["texts"], HOSTILE["right"][setting]):
        found, spans = tokenizer.encode_with_offsets(text)
        assert found == ids and [place for span in spans for place in span] == offsets, ascii(text)


@pytest.mark.parametrize(
    "settings, right",
    [
        ({}, "hello cafe [MASK] [ mask ] foo ##bar 中 文"),
        ({"do_lower_case": False}, "Hello café [MASK] [ mask ] foo ##bar 中 文"),
        (
            {"strip_accents": False, "tokenizer_class": "BertTokenizerFast"},
            "hello café [MASK] [ mask ] foo ##bar 中 文",
        ),
        ({"do_lower_case": False, "strip_accents": True}, "Hello cafe [MASK] [ mask ] foo ##bar 中 文"),
        ({"tokenize_chinese_chars": False}, "hello cafe [MASK] [ mask ] foo ##bar 中文"),
        ({"split_special_tokens": True}, "hello cafe [ mask ] [ mask ] foo ##bar 中 文"),
        ({"mask_token": "<mask>"}, "hello cafe [ mask ] [ mask ] foo ##bar 中 文"),
        ({"extra_special_tokens": ["foo"]}, "hello cafe [MASK] [ mask ] foo [UNK] 中 文"),
        ({"image_token": "Hello"}, "Hello cafe [MASK] [ mask ] foo ##bar 中 文"),
        (
            {"added_tokens_decoder": {"28": {"content": "foobar", "special": False}}},
            "hello cafe [MASK] [ mask ] foobar 中 文",
        ),
        (
            {"never_split": None, "do_basic_tokenize": True, "model_max_length": 4, "never_heard_of": 1},
            "hello cafe [MASK] [ mask ] foo ##bar 中 文",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_tokenizer_config_is_followed(tmp_path, settings, right):
    assert pieces(folder(tmp_path / "f", settings=settings)) == right


def test_older_files_are_followed(tmp_path):
    path = folder(
        tmp_path / "f",
        names={"cls_token": "<s>", "sep_token": {"content": "</s>", "lstrip": False}, "pad_token": "<pad>"},
        added={"foobar": 28, "<ent>": 29},
    )
    tokenizer = WordPieceTokenizer.load(path, special_in_text=True)
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id) == (18, 19, 21)
    assert (tokenizer.mask_id, len(tokenizer)) == (4, 30)
    assert pieces(path, "<s>foobar<ent>[CLS]") == "<s> foobar <ent> [ [UNK] ]"


def test_of_text_that_is_trained_on_comes_no_special_token(tmp_path):
    tokenizer = WordPieceTokenizer.load(
        folder(tmp_path / "f", settings={"added_tokens_decoder": {"28": {"content": "foobar"}}})
    )
    assert [tokenizer.tokens[number] for number in tokenizer.encode("[MASK] foobar")] == ["[", "mask", "]", "foobar"]


@pytest.mark.parametrize(
    "vocab, right, size",
    [
        ("\n".join(WORDS), "hello cafe", 28),
        ("\n".join(WORDS) + "\n\n", "hello cafe", 29),
        ("\r\n".join(WORDS) + "\r\n", "hello cafe", 28),
        (" \n".join(WORDS) + "\u3000\n", "hello cafe", 28),
        (b"\xef\xbb\xbf" + "\n".join(WORDS).encode(), "hello cafe", 28),
        ("\n".join([*WORDS[:5], "hello", "", *WORDS[5:], "", "x\u2028y"]), "hello cafe", 32),
    ],
    ids=["usual", "blank at the end", "crlf", "spaces", "byte-order mark", "twice and blank"],
)
def test_lines_of_a_vocabulary(tmp_path, vocab, right, size):
    """Of a token that stands twice the last one counts."""
    path = folder(tmp_path / "f", vocab)
    tokenizer = WordPieceTokenizer.load(path)
    lines = (vocab if isinstance(vocab, str) else vocab.decode()).lstrip("\ufeff").split("\n")
    assert pieces(path, "hello café") == right and len(tokenizer) == size == Vocabulary(path / "vocab.txt").size()
    assert tokenizer.encode("hello") == [len(lines) - 1 - [line.strip() for line in lines][::-1].index("hello")]
    assert set(tokenizer.special_ids) >= {0, 1, 2, 3}
    assert {tokenizer.tokens[number] for number in tokenizer.special_ids} <= {"", *WORDS[:5]}


# --- tokenizer.json


def test_what_transformers_5_writes(tmp_path):
    """No vocab.txt: its BertTokenizer takes tokens from tokenizer.json, all else from tokenizer_config.json."""
    path = folder(
        tmp_path / "f", None, pipeline=pipeline(), settings={"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    )
    assert pieces(path) == "Hello café [MASK] [ mask ] foobar 中 文" and WordPieceTokenizer.load(path).notes == []
    path = folder(tmp_path / "g", "[PAD]\n", pipeline=pipeline())
    assert pieces(path) == "hello cafe [MASK] [ mask ] foobar 中 文"
    first, second = WordPieceTokenizer.load(path).notes
    assert "vocab.txt and tokenizer.json have different tokens" in first
    assert "tokenizer.json has another normalizer than a BertTokenizer" in second


def test_a_tokenizer_that_is_tokenizer_json_alone(tmp_path):
    template = {
        "type": "TemplateProcessing",
        "single": [piece("[CLS]"), text("A", 0), piece("[SEP]")],
        "pair": [piece("[CLS]"), text("A", 0), piece("[SEP]"), text("B", 1), piece("[SEP]", 1)],
        "special_tokens": {
            name: {"id": name, "ids": [WORDS.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")
        },
    }
    parts = {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": template,
    }
    path = folder(
        tmp_path / "f", "[PAD]\n", pipeline=pipeline(**parts), settings={"tokenizer_class": "PreTrainedTokenizerFast"}
    )
    assert pieces(path) == "Hello cafe [MASK] [UNK] foobar 中文"
    assert pieces(path / "tokenizer.json") == pieces(path)
    tokenizer = WordPieceTokenizer.load(path)
    assert [tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id] == list(range(5))
    assert tokenizer.has_segments is False and "gives no token_type_ids" in tokenizer.notes[0]
    with pytest.raises(UsageError, match="--lowercase has no effect on .*/f: its tokenizer.json says by itself"):
        WordPieceTokenizer.load(path, lowercase=True)


def piece(name, segment=0):
    return {"SpecialToken": {"id": name, "type_id": segment}}


def text(name, segment):
    return {"Sequence": {"id": name, "type_id": segment}}


WHOLE = {"tokenizer_class": "TokenizersBackend"}


@pytest.mark.parametrize(
    "files, says",
    [
        (
            dict(settings={"never_split": ["foobar"]}),
            r"tokenizer_config.json: 'never_split' is \['foobar'\], which cannot be followed",
        ),
        (
            dict(settings={"do_basic_tokenize": False}),
            "tokenizer_config.json: 'do_basic_tokenize' is False, which cannot be followed",
        ),
        (dict(settings={"wordpieces_prefix": "@@"}), "'wordpieces_prefix' is '@@', which cannot"),
        (dict(settings={"max_input_chars_per_word": 200}), "'max_input_chars_per_word' is 200"),
        (dict(settings={"do_lower_case": "no"}), "'do_lower_case' must be true or false, not 'no'"),
        (dict(settings={"strip_accents": 0}), "'strip_accents' must be true or false, not 0"),
        (
            dict(settings={"tokenizer_class": "BertJapaneseTokenizer"}),
            "its tokenizer is a BertJapaneseTokenizer; what can be followed is a BertTokenizer",
        ),
        (
            dict(config={"tokenizer_class": "RobertaTokenizer"}),
            "a RobertaTokenizer, which is made from vocab.json and merges.txt, and there is none",
        ),
        (dict(settings=WHOLE), "is made from tokenizer.json, and there is none"),
        (dict(settings={"cls_token": "<cls>"}), "/f has no <cls>; a WordPiece vocabulary has "),
        (dict(settings={"pad_token": None}), "/f has no pad_token; a WordPiece"),
        (dict(settings={"cls_token": 5}), "tokenizer_config.json: 5 is no token"),
        (dict(settings="{"), "tokenizer_config.json: it is no JSON file"),
        (dict(settings="[]"), "tokenizer_config.json: it must be a JSON object, not a list"),
        (dict(names='"x"'), "special_tokens_map.json: it must be a JSON object"),
        (dict(added={"foobar": "x"}), "added_tokens.json: the id of 'foobar' must be a whole number, not 'x'"),
        (
            dict(vocab="\n".join([*WORDS, "a"]), added={"foobar": 29}),
            "the added token 'foobar' gets the id 28, which another token has",
        ),
        (dict(pipeline="{}"), "tokenizer.json: it has no WordPiece vocabulary"),
        (
            dict(pipeline=pipeline(model={"type": "BPE", "vocab": {}, "merges": []})),
            "tokenizer.json: its model is 'BPE'; a WordPiece one is needed",
        ),
        (
            dict(pipeline=pipeline(model={"type": "BPE", "vocab": {"a": 0}, "merges": []}), settings=WHOLE),
            "its tokens are those of BPE; WordPieces are needed here",
        ),
        (
            dict(pipeline=pipeline(post_processor=None), settings=WHOLE),
            r"its post_processor does not put \[CLS\] A \[SEP\] B \[SEP\] around",
        ),
        (
            dict(
                pipeline=pipeline(
                    post_processor={
                        "type": "RobertaProcessing",
                        "cls": ["[CLS]", 2],
                        "sep": ["[SEP]", 3],
                        "trim_offsets": True,
                        "add_prefix_space": True,
                    }
                ),
                settings=WHOLE,
            ),
            "its post_processor does not put",
        ),
        (
            dict(pipeline=pipeline(normalizer={"type": "Odd"}), settings=WHOLE),
            "tokenizer.json: it is damaged, or for another version",
        ),
        (
            dict(pipeline=pipeline(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), settings=WHOLE),
            "it has a Precompiled, which is",
        ),
        (dict(vocab=None), "/f has no tokenizer: neither vocab.txt nor vocab.json nor"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_cannot_be_followed_is_one_line(tmp_path, files, says):
    with pytest.raises(UsageError, match=says) as error:
        WordPieceTokenizer.load(folder(tmp_path / "f", **files))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_half_of_a_character_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"a text has half of a character \(\\ud800\), which is no text"):
        WordPieceTokenizer.load(folder(tmp_path / "f")).encode("a\ud800b")


# --- as a thing to carry


def test_the_digest_is_that_of_vocab_txt_where_that_says_everything(tmp_path):
    alone = Vocabulary(folder(tmp_path / "f") / "vocab.txt")
    same = {"do_lower_case": False, "model_max_length": 512, "cls_token": "[CLS]"}
    assert (
        Vocabulary(folder(tmp_path / "g", settings=same)).digest()
        == alone.digest()
        == Vocabulary(tmp_path / "f", False).digest()
    )
    others = [
        Vocabulary(folder(tmp_path / f"h{number}", settings=settings)).digest()
        for number, settings in enumerate(
            (
                {"strip_accents": False},
                {"tokenize_chinese_chars": False},
                {"split_special_tokens": True},
                {"model_input_names": ["input_ids"]},
            )
        )
    ]
    assert len({alone.digest(), *others}) == 5


@pytest.mark.parametrize(
    "files, lowercase",
    [
        (dict(settings={"strip_accents": False, "cls_token": "<s>"}), None),
        (dict(settings={"strip_accents": False}), False),
        (dict(vocab=None, pipeline=pipeline(), settings={"do_lower_case": False}), True),
        (dict(vocab=None, pipeline=pipeline(), settings=WHOLE), None),
        (dict(vocab=None, pipeline=pipeline(), settings=WHOLE), True),
        (dict(config={"tokenizer_class": "BertTokenizer"}, added={"foobar": 28}), None),
        (dict(vocab=b"\xef\xbb\xbf" + "\n".join(WORDS).encode()), True),
    ],
)
def test_files_are_carried_whole(tmp_path, files, lowercase):
    """What lies beside records, and in a checkpoint, gives the same tokens again."""
    vocabulary = Vocabulary(folder(tmp_path / "f", **files), lowercase)
    right = vocabulary.load(special_in_text=True)
    for number, content in enumerate((vocabulary.files(), vocabulary.beside_records())):
        copy = tmp_path / f"copy{number}"
        copy.mkdir()
        for name, data in content.items():
            (copy / name).write_bytes(data)
        again = Vocabulary.beside(copy, lowercase).load(special_in_text=True)
        for sentence in HOSTILE["texts"]:
            assert again.encode_with_offsets(sentence) == right.encode_with_offsets(sentence)
        assert (again.tokens, again.special_ids, again.has_segments) == (
            right.tokens,
            right.special_ids,
            right.has_segments,
        )
