"""Going on with prompts: the choice of tokens against formulas of its own, batches, and files of prompts."""

from __future__ import annotations

import numpy as np
import pytest

from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.contract.executor import Decoder
from pipeloom.plugins.libraries.generation.decoding_loop import END, LIMIT, POSITIONS, LoopSettings, generate
from pipeloom.plugins.libraries.generation.prompts import read_prompts
from pipeloom.plugins.libraries.generation.sampling import Sampling

pytestmark = pytest.mark.fast

LOGITS = np.random.default_rng(1).standard_normal(40).astype(np.float32) * 2


def expected(temperature, top_k, top_p):
    """Probabilities, token by token: how likely all likelier ones are together decides whether one is left."""
    weights = [float(np.exp(np.float64(logit) / temperature)) for logit in LOGITS]
    ranked = sorted(range(len(weights)), key=lambda token: -weights[token])[: top_k or None]
    total = sum(weights[token] for token in ranked)
    left, before = {}, 0.0
    for token in ranked:
        if before < top_p:
            left[token] = weights[token]
        before += weights[token] / total
    return [left.get(token, 0.0) / sum(left.values()) for token in range(len(weights))]


@pytest.mark.parametrize("temperature, top_k, top_p", [(1, 0, 1), (0.5, 0, 1), (1, 5, 1), (1.3, 0, 0.7), (2, 12, 0.8)])
def test_probabilities_are_those_of_the_formula(temperature, top_k, top_p):
    found = Sampling(temperature, top_k, top_p).probabilities(LOGITS)
    np.testing.assert_allclose(found, expected(temperature, top_k, top_p), atol=1e-12)


def test_draws_have_these_frequencies_and_hang_on_their_key_alone():
    sampling, count = Sampling(1.5, 8, 0.9, seed=3), 4000
    draws = [sampling.choose(LOGITS, prompt, step) for prompt in range(40) for step in range(count // 40)]
    shares = np.bincount(draws, minlength=len(LOGITS)) / count
    wanted = np.array(expected(1.5, 8, 0.9))
    # Five standard deviations of a share.
    assert (abs(shares - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / count)).all()
    assert (shares[wanted == 0] == 0).all()
    assert sampling.choose(LOGITS, 7, 2) == draws[7 * 100 + 2]
    assert [Sampling(1.5, 8, 0.9, seed=4).choose(LOGITS, 0, step) for step in range(20)] != draws[:20]


def test_equal_logits_at_the_edge_of_top_k_all_stay():
    found = Sampling(1.0, 2).probabilities(np.array([3, 1, 1, 0], np.float32))
    assert (found > 0).tolist() == [True, True, True, False]


class Counting(Decoder):
    """Answers with the token after the last visible one; 9 is the end. It checks what it is fed."""

    def __init__(self):
        self.seen, self.steps = None, 0

    def step(self, fields, positions, visible):
        ids = fields["input_ids"]
        self.seen = ids if self.seen is None else np.concatenate([self.seen, ids], axis=1)
        self.steps += 1
        assert positions.shape == ids.shape and visible.shape == (*ids.shape, self.seen.shape[1])
        # The last token sees as many as its position says, padding not among them.
        assert (visible[:, -1].sum(axis=1) == positions[:, -1] + 1).all() or positions.max() == 5
        return np.eye(12, dtype=np.float32)[(self.seen[:, -1] + 1) % 12]


def run(prompts, **settings):
    settings = {"max_new_tokens": 4, "positions": 100, "vocab": 10, "end": 9, **settings}
    decoders = []

    def begin():
        decoders.append(Counting())
        return decoders[-1]

    found = dict(generate(begin, prompts, LoopSettings(Sampling(), **settings)))
    return [(found[number].ids, found[number].ended) for number in range(len(prompts))], decoders


def test_prompts_of_different_lengths_end_each_for_its_own_reason():
    prompts = [[1], [5, 6, 7], [2, 2], [8]]
    wanted = [([2, 3, 4, 5], LIMIT), ([8, 9], END), ([3, 4, 5, 6], LIMIT), ([9], END)]
    assert run(prompts)[0] == run(prompts, batch_size=1)[0] == run(prompts, use_cache=False)[0] == wanted


def test_what_was_read_is_not_read_again_with_the_cache_alone():
    (_, (decoder,)), (_, decoders) = run([[1, 2]]), run([[1, 2]], use_cache=False)
    assert decoder.steps == 4 and decoder.seen.tolist() == [[1, 2, 3, 4, 5]]
    assert [one.seen.shape[1] for one in decoders if one.steps] == [2, 3, 4, 5]


def test_a_text_ends_with_the_last_position():
    # Five positions are read, and one token more is known.
    assert run([[1, 2, 3]], positions=5, max_new_tokens=8)[0] == [([4, 5, 6], POSITIONS)]
    assert run([[1, 2, 3], [1]], positions=6, max_new_tokens=5)[0][1] == ([2, 3, 4, 5, 6], LIMIT)


def test_logits_that_are_no_numbers_end_in_one_line():
    class Broken(Decoder):
        def step(self, fields, positions, visible):
            return np.full((1, 10), np.nan, np.float32)

    with pytest.raises(RunError, match="prompt 1: the model's logits are not finite"):
        list(generate(Broken, [[1]], LoopSettings(Sampling(), 4, 100, 10)))


def test_prompts_are_lines_of_text_or_of_json(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbfOne \r\n\r\n  two\n")
    assert [prompt.text for prompt in read_prompts(file)] == ["One ", "  two"]
    file.write_text('{"prompt": "a", "id": 4}\n{"ids": [1, 2]}\n')
    first, second = read_prompts(file)
    assert (first.text, first.id, second.ids) == ("a", 4, [1, 2])


@pytest.mark.parametrize(
    "name, content, line",
    [
        ("p.txt", b"", "it has no prompts"),
        ("p.txt", b"\n \n", "it has no prompts"),
        ("p.txt", b"caf\xe9", r"no UTF-8 text \(byte 3\)"),
        ("p.txt", b"a\0b", "it is no text"),
        ("p.jsonl", b'{"prompt": "a"}\nword\n', "line 2: it is no JSON"),
        ("p.jsonl", b'{"text": "a"}\n', "line 1: it is no object with either a prompt or ids"),
        ("p.jsonl", b'{"prompt": 3}\n', "'prompt' must be a text, not 3"),
        ("p.jsonl", b'{"ids": [1, true]}\n', "'ids' must be a list of whole numbers"),
        ("p.jsonl", b"[" * 100000, "line 1: it is no JSON"),
    ],
)
def test_what_is_no_file_of_prompts(tmp_path, name, content, line):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=line):
        read_prompts(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "prompts.txt").write_text("a")
    with pytest.raises(UsageError, match=r"No such file .*did you mean 'prompts.txt'"):
        read_prompts(tmp_path / "prompt.txt")
