"""What a small GPT-2 learns: python benchmarks/causal_lm.py [--write]

- From a real Wikipedia dump: perplexity on articles that it does not train on, which falls.
- A page by heart, in two pipeline stages: in the end its first guess is right at every token of it.

`--write` puts the figures into their part of docs/text.md. Ends with 1 when something of it does not hold.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import entry, origin, page_parser  # noqa: E402  (the checkout is on the path now)

PAGE = ROOT / "docs" / "text.md"
DUMP = ROOT.parent / "shared" / "data" / "wiki_dump" / "enwiki-sample-pages-articles.xml.bz2"
#: Every tenth article is held out.
HELD_OUT, VOCAB_SIZE, STEPS, EVERY = 10, 4096, 300, 50
HEART_STEPS = 150
BEGIN, END = "<!-- written by benchmarks/causal_lm.py -->", "<!-- up to here -->"
SMALL = ["--num_hidden_layers", "2", "--num_attention_heads", "2", "--nnodes", "1", "--nproc_per_node", "2"]
#: Lewis Carroll, Through the Looking-Glass (1871): words that no rule gives.
JABBERWOCKY = """'Twas brillig, and the slithy toves
  Did gyre and gimble in the wabe:
All mimsy were the borogoves,
  And the mome raths outgrabe.

"Beware the Jabberwock, my son!
  The jaws that bite, the claws that catch!
Beware the Jubjub bird, and shun
  The frumious Bandersnatch!"

He took his vorpal sword in hand:
  Long time the manxome foe he sought--
So rested he by the Tumtum tree,
  And stood awhile in thought.

And, as in uffish thought he stood,
  The Jabberwock, with eyes of flame,
Came whiffling through the tulgey wood,
  And burbled as it came!

One, two! One, two! And through and through
  The vorpal blade went snicker-snack!
He left it dead, and with its head
  He went galumphing back.
"""


def train(run: Path, *options: Any) -> List[Dict[str, float]]:
    """Train in two pipeline stages; returns the evaluations."""
    entry("--plugins", "inter_first,gpt2,text", *SMALL, "--nums_split", "2", "--output_dir", run, *options)
    return [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]


def wikipedia(folder: Path, steps: int) -> List[Dict[str, float]]:
    """Train on nine tenths of the articles of the dump; returns the evaluations on the others."""
    from pipeloom.plugins.libraries.tokens.token_reading import TokenFolder
    from pipeloom.plugins.libraries.tokens.token_writing import TokenFolderWriter

    vocab = folder / "vocab"
    entry("prepare", "vocab", "--kind", "bpe", "--vocab_size", VOCAB_SIZE, "--input", DUMP, "--output", vocab)
    entry("prepare", "tokens", "--vocab", vocab, "--input", DUMP, "--output", folder / "all")
    whole = TokenFolder.open(folder / "all")
    for name, held_out in (("train", False), ("eval", True)):
        with TokenFolderWriter(folder / name, whole.vocabulary, str(DUMP.name)) as writer:
            for number in range(len(whole)):
                if (number % HELD_OUT == HELD_OUT - 1) == held_out:
                    writer.add(whole.document(number))
    paths = ["--text_path", folder / "train", "--eval_path", folder / "eval"]
    sizes = ["--hidden_size", 128, "--seq_length", 128, "--max_position_embeddings", 128]
    often = ["--train_steps", steps, "--eval_every", EVERY, "--eval_samples", 200, "--save_every", 0]
    batch = ["--train_global_batch_size", 16, "--learning_rate", "2e-3"]
    return train(folder / "run", *paths, *sizes, *often, *batch)


def by_heart(folder: Path) -> Dict[str, float]:
    """Learn a page, in two stages and without dropout; returns the last evaluation on it."""
    (folder / "page.txt").write_text(JABBERWOCKY, encoding="utf-8")
    paths = ["--text_path", folder / "page.txt", "--eval_path", folder / "page.txt"]
    sizes = ["--hidden_size", 64, "--seq_length", 512, "--max_position_embeddings", 512]
    steps = [
        "--train_steps",
        HEART_STEPS,
        "--train_global_batch_size",
        4,
        "--learning_rate",
        "3e-3",
        "--eval_every",
        HEART_STEPS,
    ]
    dropout = ["--hidden_dropout_prob", 0, "--attention_probs_dropout_prob", 0]
    return train(folder / "heart", *paths, *sizes, *steps, *dropout)[-1]


def figures(curve: List[Dict[str, float]], heart: Dict[str, float], seconds: float) -> str:
    rows = "\n".join(
        f"| {line['step']} | {line['lm_loss']:.3f} | {line['perplexity']:.1f} | {100 * line['lm_accuracy']:.1f} % |"
        for line in curve
    )
    return f"""{BEGIN}
{origin("python benchmarks/causal_lm.py --write", seconds)}

Perplexity on every tenth article of the dump of 206 pages, with 2 layers of hidden size 128, two pipeline stages on CPU processes, {VOCAB_SIZE:,} tokens
of byte-level BPE, samples of 128 tokens in batches of 16, learning rate 2e-3 (a model that knows nothing: {VOCAB_SIZE:,}):

| step | loss | perplexity | right at first guess |
|---:|---:|---:|---:|
{rows}

A page by heart (five stanzas of Jabberwocky, 2 layers of hidden size 64, two stages, {HEART_STEPS} steps): perplexity on it
{heart["perplexity"]:.4f}, {100 * heart["lm_accuracy"]:.2f} % of its tokens are the first guess.
{END}"""


def main() -> int:
    parser = page_parser(__doc__, PAGE)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the training on Wikipedia")
    arguments = parser.parse_args()
    if not DUMP.exists():
        sys.exit(f"needs the data {DUMP.relative_to(ROOT.parent)} beside the checkout")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pipeloom-causal-lm-") as name:
        heart = by_heart(Path(name))
        print(heart, flush=True)
        curve = wikipedia(Path(name), arguments.steps)
        print(*curve, sep="\n", flush=True)
    text = figures(curve, heart, time.monotonic() - began)
    print(text)
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(re.sub(rf"{BEGIN}.*?{END}", lambda _: text, page, flags=re.S), encoding="utf-8")
    perplexities = [line["perplexity"] for line in curve]
    falls = all(after < before for before, after in zip(perplexities, perplexities[1:]))
    return 0 if falls and perplexities[-1] < math.sqrt(VOCAB_SIZE) * 5 and heart["lm_accuracy"] > 0.995 else 1


if __name__ == "__main__":
    raise SystemExit(main())
