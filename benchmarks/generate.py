"""What generate finds, and how fast: python benchmarks/generate.py [--reference PYTHON] [--write]

- A page that a small GPT-2 learned by heart in two stages comes back word for word, also from two stages.
- With `--reference` (a Python with torch and transformers): from the exported folder and from a random one, 64 greedy
  tokens behind several prompts are those of transformers.
- Tokens a second with and without cached keys and values.

`--write` puts the figures into their part of docs/generate.md. Ends with 1 when something of it does not hold.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.causal_lm import JABBERWOCKY, by_heart  # noqa: E402  (the checkout is on the path now)
from benchmarks.machine import entry, origin, page_parser  # noqa: E402

PAGE = ROOT / "docs" / "generate.md"
BEGIN, END = "<!-- written by benchmarks/generate.py -->", "<!-- up to here -->"
NEW_TOKENS = 64
TWO_STAGES = ["--plugins", "inter_first", "--nnodes", 1, "--nproc_per_node", 2, "--nums_split", 2]
FAMOUS = ["'Twas br", "He took his", "And, as in", "One, two!", "The vorpal blade", "Beware"]
#: Greedy tokens of transformers behind each of the ids on standard input.
REFERENCE = """
import json, sys, torch
from transformers import GPT2LMHeadModel
model = GPT2LMHeadModel.from_pretrained(sys.argv[1]).eval()
for line in sys.stdin:
    ids = json.loads(line)
    found = model.generate(torch.tensor([ids]), max_new_tokens=int(sys.argv[2]), do_sample=False, pad_token_id=0)
    print(json.dumps(found[0, len(ids):].tolist()))
"""


def generate(folder: Path, checkpoint: Path, prompts: List[Dict[str, Any]], *options: Any) -> List[Dict[str, Any]]:
    """Return the lines that ``generate`` writes for ``prompts``."""
    (folder / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    out = folder / "out.jsonl"
    entry("generate", "--checkpoint", checkpoint, "--input", folder / "prompts.jsonl", "--output", out, *options)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def equal_to_transformers(reference: str, folder: Path, model: Path, prompts: List[List[int]]) -> Tuple[int, int]:
    """Return how many of ``prompts`` go on as in transformers, in one process and in two stages."""
    lines = "".join(json.dumps(ids) + "\n" for ids in prompts)
    answer = subprocess.run(
        [reference, "-c", REFERENCE, str(model), str(NEW_TOKENS)], input=lines, text=True, stdout=subprocess.PIPE
    )
    answer.check_returncode()
    wanted = [json.loads(line) for line in answer.stdout.splitlines()]
    equal = []
    for layout in ([], TWO_STAGES):
        found = generate(folder, model, [{"ids": ids} for ids in prompts], "--max_new_tokens", NEW_TOKENS, *layout)
        equal.append(sum(line["ids"] == ids for line, ids in zip(found, wanted)))
    return equal[0], equal[1]


def random_model(folder: Path) -> Path:
    """Write a random GPT-2 that has room for the prompts and what comes behind them."""
    import small_gpt2

    small_gpt2.POSITIONS = 128
    folder.mkdir()
    return small_gpt2.write_small_gpt2(folder)


def speeds(folder: Path, run: Path) -> List[str]:
    """Return rows of a table: tokens a second behind one and eight prompts, with and without the cache."""
    rows = []
    for count in (1, 8):
        for cache in ("true", "false"):
            began = ["--max_new_tokens", 200, "--use_cache", cache, "--batch_size", count, "--temperature", 1]
            said = subprocess.run(
                [sys.executable, str(ROOT / "entry.py"), "generate", "--checkpoint", str(run)]
                + ["--input", str(_prompts(folder, count)), "--output", str(folder / "speed.jsonl"), *map(str, began)],
                stderr=subprocess.PIPE,
                text=True,
            )
            said.check_returncode()
            speed = re.search(r"\(([\d.]+) a second\)", said.stderr).group(1)
            rows.append(f"| {count} | {'yes' if cache == 'true' else 'no'} | {float(speed):.0f} |")
    return rows


def _prompts(folder: Path, count: int) -> Path:
    path = folder / f"prompts_{count}.txt"
    path.write_text("".join(f"{text}\n" for text in (FAMOUS * 2)[:count]), encoding="utf-8")
    return path


def main() -> int:
    parser = page_parser(__doc__, PAGE)
    parser.add_argument("--reference", metavar="PYTHON", help="a Python with torch and transformers")
    options = parser.parse_args()
    began, holds = time.monotonic(), True
    with tempfile.TemporaryDirectory(prefix="pipeloom-generate-") as name:
        folder = Path(name)
        by_heart(folder)
        run = folder / "heart"
        (line,) = generate(folder, run, [{"prompt": "'Twas br"}], "--max_new_tokens", 500, *TWO_STAGES)
        word_for_word = "'Twas br" + line["text"] == JABBERWOCKY.rstrip("\n")
        holds = holds and word_for_word
        facts = [
            "A page learned by heart in two stages (five stanzas, 2 layers, hidden 64) and generated in two stages from "
            f"its first two words: {len(line['ids'])} tokens, {'word for word' if word_for_word else 'NOT the same'}, "
            f"ended by {line['ended']}."
        ]
        if options.reference:
            entry("export", "--checkpoint", run, "--output", folder / "export")
            learned = [generate(folder, run, [{"prompt": text}], "--max_new_tokens", 1)[0]["ids"] for text in FAMOUS]
            sets = {
                "the folder exported from it": (folder / "export", [[ids[0], 5, 9] for ids in learned]),
                "a random folder": (random_model(folder / "random"), [[20, 30, 40], [60], [33, 9], [7, 6, 5, 4]]),
            }
            for what, (model, prompts) in sets.items():
                one, two = equal_to_transformers(options.reference, folder, model, prompts)
                holds = holds and one == two == len(prompts)
                facts.append(
                    f"{NEW_TOKENS} greedy tokens behind {len(prompts)} prompts, from {what}: {one} equal transformers' "
                    f"in one process, {two} in two stages."
                )
        table = ["| prompts at once | cache | tokens a second |", "|---:|---|---:|", *speeds(folder, run)]
    text = "\n\n".join(
        [origin("python benchmarks/generate.py --reference PYTHON --write", time.monotonic() - began), *facts]
        + ["\n".join(table)]
    )
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        part = f"{BEGIN}\n{text}\n{END}"
        PAGE.write_text(re.sub(rf"{BEGIN}.*?{END}", lambda _: part, page, flags=re.S), encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
