"""What `prepare pretraining` takes and gives, on a real Wikipedia dump: python benchmarks/prepare.py [--write]

Speed and memory with 1 and 2 workers and on 20 times the input, the same bytes after kills at random instants, what the
examples say when they are decoded, bad input, and a pre-training run on them. Ends with 1 when something of it does not
hold.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from preparations import digest, records  # noqa: E402

from benchmarks.machine import origin, page_parser  # noqa: E402  (the checkout is on the path now)

PAGE = ROOT / "docs" / "prepare.md"
DATA = ROOT.parent / "shared" / "data"
DUMP, VOCAB = DATA / "wiki_dump" / "enwiki-sample-pages-articles.xml.bz2", DATA / "bert-base-uncased-vocab.txt"
TIMES, KILLS, STEPS, SEED = 20, 10, 300, 11
#: What is left of markup when it is split into WordPieces.
MARKUP = re.compile(
    r"\{ \{|\} \}|\[ \[|\] \]|\{ \||\| \}|' ' '|< ref|< /|& (?:nbsp|amp|lt|gt|ndash) ;|https? : /|thumb \||= =|\| "
    r"align|style ="
)
MASK_ID = 103


#: The part of the page that is no figures.
READ = """## What is read

A file is what its content says, whatever its name; plain, or compressed by bz2, gzip, xz or zstd (with
`pip install 'pipeloom[zstd]'`). Of a folder all files are read, without hidden ones and those whose names begin with
`_`; they are one input.

| what | documents |
|---|---|
| a MediaWiki dump | the articles: prose without lists, tables, headings and appendices; one variant of `-{...}-` |
| WikiExtractor's output, plain or `--json` | each `<doc>`, without its title, tags and entities |
| JSON lines, arrays, objects over many lines | an object's `text` (or `--text_key a.b`): a string, or sentences |
| a CirrusSearch dump | pages of the main namespace |
| plain text | `--text_documents file`, `blank_lines` or `lines`: what is a document |
| one sentence a line | `--text_documents sentences`: up to a blank line (BERT's `sample_text.txt`, BookCorpus) |
| a book of Project Gutenberg | without the licence around it |

What is no text (PDF, archives, Office files, Parquet, SQLite, UTF-16, Latin-1), or more markup than prose (HTML, other
XML, CSV, SQL, LaTeX, subtitles, e-mail), is refused by its name before the work begins. Markup in text is kept,
counted, and said with a line of it.

Templates that carry text (dates, quantities, numbers, words of other languages, centuries) are written as the page
shows them, in English, French, German, Spanish, Italian, Portuguese, Russian, Japanese and Chinese. A sentence with
another template, or with a formula, is left out. The summary counts every sentence and document that is left out by
its reason, and names the templates; `meta.json` has more of them.

`prepare validate` asks of a record what training asks of it. Where a vocab.txt lies beside the records they follow
BERT's conventions: [CLS], segments, [SEP], padding, weights of 1 and then 0. Of other records only types, lengths and
bounds are asked, and the rest is a note.

`prepare vocab` keeps every character, or, where these would take more than a quarter of the vocabulary, those that make
up a millionth of the text, as long as they fit (what is given up is less than 0.05 % of the text); or the
`--limit_alphabet` most frequent ones. It says how many are not in it.
"""


@dataclass(frozen=True)
class Made:
    """One preparation: the folder, how long it took, the most memory of all its processes together, in MiB, and their CPU
    seconds where these were taken."""

    folder: Path
    workers: int
    samples: int
    seconds: float
    memory: float
    cpu: float = 0.0


def command(inputs: Sequence[Path], out: Path, workers: int, *more: str) -> List[str]:
    return [
        sys.executable,
        str(ROOT / "entry.py"),
        "prepare",
        "pretraining",
        "--input",
        *map(str, inputs),
        "--vocab",
        str(VOCAB),
        "--output",
        str(out),
        "--workers",
        str(workers),
        *more,
    ]


def prepare(inputs: Sequence[Path], out: Path, workers: int, *more: str) -> Made:
    began = time.monotonic()
    process = subprocess.Popen(command(inputs, out, workers, *more), stdout=subprocess.DEVNULL, start_new_session=True)
    peak = [0.0]
    watching = threading.Thread(target=watch, args=(process, peak))
    watching.start()
    assert process.wait() == 0
    watching.join()
    seconds = time.monotonic() - began
    return Made(out, workers, json.loads((out / "meta.json").read_text())["num_samples"], seconds, peak[0])


def watch(process: subprocess.Popen, peak: List[float]) -> None:
    """Keep in ``peak`` the most memory that the processes of a session had together, in MiB."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(_resident(process.pid)))
        time.sleep(0.05)


def _resident(session: int) -> Iterator[float]:
    """MiB of each process of a session, shared pages counted in parts (PSS)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                yield int(re.search(r"^Pss:\s+(\d+)", (folder / "smaps_rollup").read_text(), re.M).group(1)) / 1024
        except (OSError, AttributeError):  # it has ended meanwhile
            pass


def killed(out: Path, whole: Made) -> int:
    """SIGKILL, SIGINT or SIGTERM at random instants; returns how many there were until the folder stood."""
    rng, count = random.Random(SEED), 0
    while count < KILLS:
        process = subprocess.Popen(
            command([DUMP], out, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(rng.uniform(0.2, whole.seconds / 3))
            assert process.returncode == 0 and count > 3, process.returncode
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
            process.wait()
        assert not out.exists()
        count += 1
    prepare([DUMP], out, 2)
    return count


def decoded(folder: Path) -> Tuple[Dict[str, float], List[str], int]:
    """Shares over all records; 200 random ones as text, the masked words in place; in how many of those markup is
    left.
    """
    words = VOCAB.read_text(encoding="utf-8").split("\n")
    found = list(records(folder))
    kinds = np.zeros(3)
    for record in found:
        count = int(record["masked_lm_weights"].sum())
        seen, true = record["input_ids"][record["masked_lm_positions"][:count]], record["masked_lm_ids"][:count]
        kinds += [
            (seen == MASK_ID).sum(),
            ((seen != MASK_ID) & (seen == true)).sum(),
            ((seen != MASK_ID) & (seen != true)).sum(),
        ]
    shares = dict(zip(("[MASK]", "kept", "another word"), 100 * kinds / kinds.sum()))
    shares["random next"] = 100 * float(np.mean([record["next_sentence_labels"][0] for record in found]))
    texts = []
    for record in random.Random(SEED).sample(found, 200):
        count, length = int(record["masked_lm_weights"].sum()), int(record["input_mask"].sum())
        ids = record["input_ids"].copy()
        ids[record["masked_lm_positions"][:count]] = record["masked_lm_ids"][:count]
        texts.append(" ".join(words[number] for number in ids[:length]).replace(" ##", ""))
    return shares, texts, sum(bool(MARKUP.search(text)) for text in texts)


def bad_inputs(folder: Path) -> List[Tuple[str, int, str]]:
    """For each kind of bad input the exit code and what is said."""
    import bz2

    xml = bz2.decompress(DUMP.read_bytes())
    text = (
        "A short document with some words in it. It has a second sentence too.\n\nAnother one is here. It goes on "
        "for a while.\n"
    )
    files = {
        "page.html": f"<!DOCTYPE html>\n<html><body><p>{text}</p></body></html>".encode(),
        "table.csv": b'id,text\n1,"Tea."\n2,"Milk."\n',
        "mixed.txt": text.encode() + b"\nThis <b>one</b> has markup in it, and goes on for a while. It is kept.\n",
        "other_key.jsonl": b'{"id": 1, "content": "One. Two."}\n',
        "cut.xml.bz2": DUMP.read_bytes()[:800000],
        "broken.xml": xml[:1000000] + b"<page><title>x</wrong>",
        "latin1.txt": text.encode() + b"caf\xe9 ol\xe9.",
        "damaged.txt": f"{text}caf\u00e9 ".encode() + b"ol\xe9 m\xe1s.",
        "empty.txt": b"",
        "long.txt": b"word " * 400000 + text.encode(),
        "lines.jsonl": b'{"text": "One. Two."}\nnonsense\n',
        "utf16.txt": text.encode("utf-16"),
        "one.txt": text.encode(),
        "no_mask.txt": VOCAB.read_bytes().replace(b"\n[MASK]\n", b"\n[MASQUE]\n"),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    blank, small = ["--text_documents", "blank_lines"], ["--min_characters", "10", "--parts", "1"]
    cases = [
        ("bz2 that is cut off", ["cut.xml.bz2"], []),
        ("the same, `--bad_input skip`", ["cut.xml.bz2"], ["--bad_input", "skip"]),
        ("XML that is not well-formed", ["broken.xml"], []),
        ("the same, `--bad_input skip`", ["broken.xml"], ["--bad_input", "skip"]),
        ("Latin-1", ["latin1.txt"], [*blank, *small]),
        ("UTF-8 with damaged places", ["damaged.txt"], [*blank, *small]),
        ("an empty file", ["empty.txt"], []),
        ("an empty file among others", ["empty.txt", "damaged.txt"], [*blank, *small, "--seed", "2"]),
        ("an HTML page", ["page.html"], small),
        (
            "the same among others, `--bad_input skip`",
            ["page.html", "one.txt"],
            ["--bad_input", "skip", *blank, *small],
        ),
        ("comma-separated values", ["table.csv"], small),
        ("text with some markup", ["mixed.txt"], [*blank, *small]),
        ("JSON lines with another key", ["other_key.jsonl"], small),
        ("documents without enough text", ["one.txt"], blank),
        ("one document only", ["one.txt"], small),
        ("a document longer than `--max_characters`", ["long.txt"], [*small, "--max_characters", "100000"]),
        ("JSON lines, one damaged", ["lines.jsonl"], small),
        ("UTF-16", ["utf16.txt"], small),
        ("a vocabulary without [MASK]", ["one.txt"], ["--vocab", str(folder / "no_mask.txt")]),
        ("an output folder made with other settings", ["damaged.txt"], [*blank, *small, "--seed", "3"]),
        ("a folder that is not ours", ["one.txt"], ["--output", str(folder)]),
        ("a name that is nearly right", ["on.txt"], []),
    ]
    rows = []
    for what, names, more in cases:
        out = folder / ("out-" + names[0])
        result = subprocess.run(
            command([folder / name for name in names], out, 1, "--dupe_factor", "1", *more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        warned = "; ".join(line for line in result.stderr.splitlines() if "warning: " in line)
        said = result.stderr if result.returncode else warned or result.stdout.splitlines()[-1]
        said = said.replace("pipeloom: warning: ", "")
        assert "Traceback" not in said and said.strip().count("\n") == 0, said
        said = said.strip().replace("pipeloom: error: ", "").replace(f"{folder}/", "").replace(str(folder), "DIR")
        rows.append((what, result.returncode, said))
    return rows


def trained(folder: Path, run: Path) -> List[Tuple[int, float, float]]:
    """Step, loss of masked words and of next sentences of a small BERT that is trained on the folder."""
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "entry.py"),
            "--plugins",
            "inter_first,bert,wiki_ofrecord",
            "--ofrecord_path",
            str(folder),
            "--output_dir",
            str(run),
            "--nnodes",
            "2",
            "--nproc_per_node",
            "1",
            "--nums_split",
            "2",
            "--num_hidden_layers",
            "2",
            "--num_attention_heads",
            "2",
            "--train_global_batch_size",
            "16",
            "--train_steps",
            str(STEPS),
            "--log_every",
            "50",
            "--learning_rate",
            "1e-3",
            "--save_every",
            "0",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(entry["step"], entry["mlm_loss"], entry["nsp_loss"]) for entry in logged]


def page(
    made: Sequence[Made],
    count: int,
    shares: Dict[str, float],
    texts: List[str],
    left: int,
    bad: List,
    losses: List,
    seconds: float,
    tokens: str,
) -> str:
    one, two, many = made
    speed = "\n".join(
        f"| {what} | {made.workers} | {made.samples:,} | {made.seconds:.1f} | {made.samples / made.seconds:,.0f} | "
        f"{made.memory:.0f} |"
        for what, made in (("the dump", one), ("the dump", two), (f"{TIMES} copies of it", many))
    )
    said = "\n".join(f"| {what} | {code} | {line.replace('|', '/')} |" for what, code, line in bad)
    curve = "\n".join(f"| {step} | {masked:.3f} | {following:.3f} |" for step, masked, following in losses)
    return f"""# From raw text to training data

{READ}
## The figures below

{origin("python benchmarks/prepare.py --write", seconds)}
The dump is the one of 206 pages (5.9 million characters) that gensim carries as test data, the vocabulary that of bert-base-uncased, with
`--seq_length 128 --max_predictions 20 --parts 16 --dupe_factor 5`.

## Speed and memory

Memory is the peak of all processes together (proportional set size, looked at 20 times a second).

| input | workers | samples | seconds | samples/s | MiB |
|---|---:|---:|---:|---:|---:|
{speed}

The bytes are the same with 1 and with 2 workers. Memory on {TIMES} times the input: {100 * (many.memory / two.memory - 1):+.1f} %.

{tokens}## Interrupted

SIGKILL, SIGINT and SIGTERM to all processes at {count} random instants, each time started again with the same command: the folder that stands
in the end is the same, byte for byte, and before that there was none.

## What is in the samples

Of the masked words {shares["[MASK]"]:.2f} % are [MASK], {shares["kept"]:.2f} % the word itself, {shares["another word"]:.2f} % another one
(the BERT paper: 80, 10, 10). {shares["random next"]:.2f} % of the samples have a random next sentence. Of 200 random samples, decoded,
{left} have markup left in them. Ten of those, with the masked words put back:

{chr(10).join(f"{number}. {text}" for number, text in enumerate(texts[:10], 1))}

The text is by Wikipedia contributors, CC BY-SA.

## Bad input

Exit code 2 is what the command asked for, 1 what was found on the way; 0 means that it was counted and left out.

| what | exit code | what is said |
|---|---:|---|
{said}

## A model that learns from it

2 layers of hidden size 128, two pipeline stages on CPU processes, batches of 16, learning rate 1e-3:

| step | masked words | next sentence |
|---:|---:|---:|
{curve}
"""


def main() -> int:
    parser = page_parser(__doc__, PAGE)
    arguments = parser.parse_args()
    if not DUMP.exists():
        sys.exit(f"needs the data {DUMP.relative_to(ROOT.parent)} beside the checkout")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pipeloom-prepare-") as name:
        folder = Path(name)
        one, two = (prepare([DUMP], folder / f"by-{workers}", workers) for workers in (1, 2))
        print(one, two, sep="\n", flush=True)
        copies = [folder / f"copy-{number}.xml.bz2" for number in range(TIMES)]
        for copy in copies:
            shutil.copy(DUMP, copy)
        many = prepare(copies, folder / "many", 2)
        print(many, flush=True)
        count = killed(folder / "killed", two)
        same = len({digest(path) for path in (one.folder, two.folder, folder / "killed")}) == 1
        print(f"{count} kills, the same bytes: {same}", flush=True)
        shares, texts, left = decoded(two.folder)
        print(shares, f"markup in {left} of 200", flush=True)
        (folder / "bad").mkdir()
        bad = bad_inputs(folder / "bad")
        losses = trained(two.folder, folder / "run")
        print(losses, flush=True)
    from benchmarks.prepare_tokens import section  # which measures in the same way as this one

    tokens, holds = section("python benchmarks/prepare.py --write")
    if arguments.write:
        PAGE.write_text(
            page((one, two, many), count, shares, texts, left, bad, losses, time.monotonic() - began, tokens),
            encoding="utf-8",
        )
    wanted = {"[MASK]": 80, "kept": 10, "another word": 10, "random next": 50}
    balanced = all(abs(shares[name] - share) < 1 for name, share in wanted.items())
    return (
        0
        if same
        and holds
        and left == 0
        and balanced
        and many.memory < 1.1 * two.memory
        and losses[-1][1] < losses[0][1] - 0.5
        else 1
    )


if __name__ == "__main__":
    raise SystemExit(main())
