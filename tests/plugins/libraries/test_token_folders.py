"""Token folders: written and read, packed, and what a damaged or foreign one is."""

import json

import numpy as np
import pytest

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.contract.tokenizer import TokenizerSource
from pipeloom.plugins.libraries.tokens.packing import PackedSamples, TokenStream
from pipeloom.plugins.libraries.tokens.token_format import BLOCK_BYTES, is_token_folder
from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder
from pipeloom.plugins.libraries.tokens.token_writing import TokenFolderWriter

pytestmark = pytest.mark.fast

END = 9


class Numbers(TokenizerSource):
    """A tokenizer without text, of ``size`` ids."""

    def __init__(self, size):
        self._size = size

    def files(self):
        return {}

    def load(self):
        return self

    def __len__(self):
        return self._size

    def digest(self):
        return f"numbers below {self._size}"

    def special_id(self, role):
        return {"eos": END}.get(role)


def written(path, documents, size=100):
    with TokenFolderWriter(path, Numbers(size), "a test") as writer:
        for ids in documents:
            writer.add(ids)
    return path


def random_documents(count=40, size=100, seed=3):
    rng = np.random.default_rng(seed)
    return [rng.integers(10, size, rng.choice([1, 1, 2, 7, 30])) for _ in range(count)]


@pytest.mark.parametrize("size, dtype, dtype_bytes", [(100, "uint16", 2), (1 << 16, "uint16", 2), (65537, "uint32", 4)])
def test_what_is_written_is_read(tmp_path, size, dtype, dtype_bytes):
    documents = [*random_documents(), [size - 1]]
    folder = TokenFolder.open(written(tmp_path / "made", [[], *documents], size))
    assert (len(folder), folder.vocab_size, folder.eos_id, folder.facts.dtype) == (len(documents), size, END, dtype)
    for number, ids in enumerate(documents):
        np.testing.assert_array_equal(folder.document(number), ids)
    np.testing.assert_array_equal(folder.tokens, np.concatenate(documents))
    assert (tmp_path / "made" / "tokens.bin").stat().st_size == dtype_bytes * folder.facts.tokens
    assert folder.vocabulary is None and is_token_folder(folder.path)
    with pytest.raises(IndexError):
        folder.document(len(documents))


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ValueError, match="ids from 3 to 100"):
        written(tmp_path / "made", [[1, 2], [3, 100]])
    written(tmp_path / "none", [[]])
    assert list(tmp_path.iterdir()) == []


def test_the_same_tokens_have_one_fingerprint_wherever_they_lie(tmp_path):
    here, there = (TokenFolder.open(written(tmp_path / name, [[1, 2], [3]])) for name in "ab")
    other = TokenFolder.open(written(tmp_path / "c", [[1], [2, 3]]))
    assert here.fingerprint() == there.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("length", [1, 3, 8, 64, 1000])
@pytest.mark.parametrize("overlap", [0, 1])
def test_packing_is_the_documents_end_to_end_cut_at_the_length(tmp_path, length, overlap):
    documents = random_documents()
    ids = np.concatenate([[*document, END] for document in documents])
    numbers = np.repeat(np.arange(len(documents)), [len(document) + 1 for document in documents])
    samples = PackedSamples(TokenFolder.open(written(tmp_path / "made", documents)), length, overlap)
    assert len(samples) == -(-(len(ids) - overlap) // length)
    for number in range(len(samples)):
        found, start = samples.read(number), number * length
        np.testing.assert_array_equal(found.ids, ids[start : start + length + overlap])
        np.testing.assert_array_equal(found.documents, numbers[start : start + length + overlap])
        assert found.ids.dtype == found.documents.dtype == np.int32


def test_a_separator_of_ones_own(tmp_path):
    folder = TokenFolder.open(written(tmp_path / "made", [[1, 2], [3]]))
    assert TokenStream(folder, 7).read(0, 5).ids.tolist() == [1, 2, 7, 3, 7]
    with pytest.raises(UsageError, match="the separator 100 is no id below 100"):
        TokenStream(folder, 100)


def _json(**changes):
    def damage(folder):
        facts = json.loads((folder / "tokens.json").read_text())
        (folder / "tokens.json").write_text(json.dumps({**facts, **changes}))

    return damage


def _bytes(name, change):
    def damage(folder):
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return damage


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda folder: (folder / "tokens.json").unlink(), "is no token folder, it has no tokens.json"),
        (_bytes("tokens.json", lambda data: data[:20]), "is no JSON file"),
        (_bytes("tokens.json", lambda data: b"\xff\xfe\x00"), "is no JSON file"),
        (_bytes("tokens.json", lambda data: b"[1]"), "it must be a JSON object"),
        (_bytes("tokens.json", lambda data: b"{}"), "it has no 'dtype'"),
        (_json(format=2), "it is of format 2, this pipeloom reads format 1"),
        (_json(dtype="float64"), "'dtype' must be uint16 or uint32"),
        (_json(tokens=-1), "'tokens' must be a whole number"),
        (_json(eos_id=100), "'eos_id' must be an id below 'vocab_size'"),
        (_json(documents=4), "documents.npy is damaged"),
        (_json(vocab_size=20), "it has the id .* and tokens.json says that all are below 20"),
        (lambda folder: (folder / "tokens.bin").unlink(), "cannot read .*tokens.bin"),
        (_bytes("tokens.bin", lambda data: data[:-2]), "tokens.bin has .* bytes, tokens.json says"),
        (_bytes("tokens.bin", lambda data: b"\0" * len(data)), "tokens.bin is damaged at tokens 0 to"),
        (_bytes("documents.npy", lambda data: data[:-1] + b"\7"), "documents.npy is damaged"),
        (_bytes("documents.npy", lambda data: b"no array"), "documents.npy is damaged"),
        (_bytes("checksums.npy", lambda data: data[:-1]), "checksums.npy is damaged"),
    ],
)
def test_a_damaged_or_foreign_folder_is_one_line(tmp_path, damage, says):
    damage(written(tmp_path / "made", random_documents()))
    with pytest.raises(UsageError, match=says):
        TokenFolder.open(tmp_path / "made")


def test_damage_further_in_is_found_when_it_is_read(tmp_path):
    per_block = BLOCK_BYTES // 2
    path = written(tmp_path / "made", [np.arange(per_block + 5) % 90 + 10])
    data = bytearray((path / "tokens.bin").read_bytes())
    data[-1] = 255  # an id far beyond the vocabulary
    (path / "tokens.bin").write_bytes(data)
    folder = TokenFolder.open(path)
    assert folder.read(0, per_block).max() == 99
    with pytest.raises(RunError, match=f"is damaged at tokens {per_block} to {per_block + 4}"):
        folder.read(per_block - 1, per_block + 1)


def test_tokens_that_do_not_belong_together_are_refused_when_sealed(tmp_path):
    from pipeloom.plugins.libraries.tokens.token_writing import seal

    path = written(tmp_path / "made", [[1, 2], [3]])
    ends = tmp_path / "ends"
    ends.write_bytes(np.array([2, 4], "<i8").tobytes())
    with pytest.raises(RunError, match="has 6 bytes, 4 tokens are 8"):
        seal(path, ends, Numbers(100), "")
