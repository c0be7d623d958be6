"""Training on text: raw text and a token folder in shares, in one process, and in two stages that are stopped and
resumed. Tolerance 1e-4, that of law 1.
"""

import json
from pathlib import Path

from byte_bpe import write_byte_bpe
from jobs import ONE_PROCESS, TINY, Training, largest_difference, metrics, train

from pipeloom.plugins.libraries.text.text_vocabulary import Vocabulary
from pipeloom.plugins.libraries.tokens.token_writing import TokenFolderWriter

TWO_STAGES = ["--nnodes", "1", "--nproc_per_node", "2", "--nums_split", "2"]
GPT2 = dict(model="gpt2", data="text")


def test_two_stages_resumed_learn_what_one_process_does(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path / "cache"))
    vocabulary = Vocabulary(write_byte_bpe(tmp_path / "vocab", {"tokenizer_class": "GPT2Tokenizer"}))
    text = Path(__file__).read_text(encoding="utf-8")
    (tmp_path / "page.py.txt").write_text("# " + text, encoding="utf-8")
    with TokenFolderWriter(tmp_path / "tokens", vocabulary) as writer:
        for line in text.splitlines():
            writer.add(vocabulary.load().encode(line))
    flags = ["--text_path", f"{tmp_path / 'tokens'}:0.6,{tmp_path / 'page.py.txt'}:0.4", "--train_steps", "6"]
    flags += ["--eval_path", str(tmp_path / "page.py.txt"), "--attend_across_documents", "false"]
    flags += ["--hidden_size", "32", "--seq_length", "32", "--learning_rate", "1e-2", "--vocab_size", "280"]
    beside = Training(tmp_path / "two", *TINY, *flags, *TWO_STAGES, "--stop_at", "3", **GPT2)
    one = train(tmp_path / "one", *TINY, *flags, *ONE_PROCESS, "--grad_acc_steps", "4", **GPT2)
    beside.curve(240)
    train(tmp_path / "two", "--resume", str(tmp_path / "two"), **GPT2)
    two = metrics(tmp_path / "two")
    assert [entry["step"] for entry in two] == list(range(1, 7)) and one[-1]["loss"] < one[0]["loss"] - 0.5
    assert largest_difference(one, two) <= 1e-4
    found = [(tmp_path / name / "evaluation.jsonl").read_text().splitlines()[-1] for name in ("one", "two")]
    first, second = (json.loads(line) for line in found)
    assert abs(first["lm_loss"] - second["lm_loss"]) <= 1e-4 and first["perplexity"] > 1
    (checkpoint,) = (tmp_path / "one" / "checkpoints").glob("step_*")
    assert Vocabulary.beside(checkpoint).digest() == vocabulary.digest()
