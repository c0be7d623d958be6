"""What the fuzzer reads: for each target the reader, the intact files, and the damage that only its format knows."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping

import numpy as np
from checkpoints import SHAPES, save_alone, value
from huggingface_targets import HUGGINGFACE_TARGETS
from mutations import Files, Mutation, Target, change_somewhere
from plugin_targets import PLUGIN_TARGETS
from squad_targets import SQUAD_TARGETS

from pipeloom.core.checkpoint.loading import Checkpoint
from pipeloom.core.checkpoint.resume import find
from pipeloom.core.commands.cli import parse
from pipeloom.core.contract.blocks import ParameterSpec
from pipeloom.core.contract.dataset import Field
from pipeloom.core.host.builtin import use_builtin
from pipeloom.plugins import TABLE
from pipeloom.plugins.commands.checkpoint import describe
from pipeloom.plugins.libraries.ofrecord.index import INDEX, make_index
from pipeloom.plugins.libraries.ofrecord.reader import OFRecordDataset
from pipeloom.plugins.libraries.ofrecord.records import decode, encode, index_part, write_part

use_builtin(TABLE)

# --- parts of OFRecord

FIELDS = [
    Field("input_ids", (12,), "int32", low=0, high=500),
    Field("input_mask", (12,), "int32", low=0, high=2),
    Field("masked_lm_positions", (3,), "int32", low=0, high=12),
    Field("masked_lm_weights", (3,), "float32"),
    Field("next_sentence_labels", (1,), "int32", low=0, high=2),
]


def read_parts(folder: Path) -> None:
    data = OFRecordDataset(folder, FIELDS, task="pretraining", vocab_size=500, options={"input_ids": "--seq_length 12"})
    for index in range(len(data)):
        for name, values in data.read([index], list(data.fields)).items():
            field = data.fields[name]
            assert values.shape == (1, *field.shape) and values.dtype == field.dtype, name
            assert np.isfinite(values).all(), name
            assert field.low is None or values.min() >= field.low, name
            assert field.high is None or values.max() < field.high, name
    data.fingerprint()


def _record(number: int) -> Dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    return {
        "input_ids": rng.integers(0, 500, 12, np.int32),
        "input_mask": np.ones(12, np.int32),
        "masked_lm_positions": np.array([1, 5, 11], np.int32),
        "masked_lm_weights": np.array([1, 1, 0], np.float32),
        "next_sentence_labels": np.array([number % 2], np.int32),
    }


@functools.lru_cache(maxsize=None)
def _parts() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        for part in range(2):
            write_part(Path(folder) / f"part-{part}", [_record(10 * part + i) for i in range(4)])
        # What may lie beside the parts; swapped with one it takes its place.
        return {
            **{path.name: path.read_bytes() for path in Path(folder).iterdir()},
            "meta.json": b'{"num_samples": 8}\n',
        }


@functools.lru_cache(maxsize=None)
def _indexed() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in _parts().items():
            (Path(folder) / name).write_bytes(content)
        make_index(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _other_index(files: Files, rng: np.random.Generator) -> Files:
    """Some bytes of the index's header are others, so that it often still is one."""
    data = bytearray(files[INDEX])
    for position in rng.integers(8, 8 + int.from_bytes(data[:8], "little"), int(rng.integers(1, 4))):
        data[position] = int(rng.integers(32, 127))
    return {**files, INDEX: bytes(data)}


def _on_record(change: Any) -> Mutation:
    """One record of one part is written anew, as ``change(record, rng)`` gives it."""

    def mutation(files: Files, rng: np.random.Generator) -> Files:
        name = f"part-{rng.integers(0, 2)}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(files[name])
            records = [decode(files[name][start : start + length]) for start, length in index_part(path).tolist()]
        chosen = int(rng.integers(0, len(records)))
        records[chosen] = change(records[chosen], rng)
        messages = map(encode, records)
        return {**files, name: b"".join(len(message).to_bytes(8, "little") + message for message in messages)}

    return mutation


def _pick(record: Dict[str, np.ndarray], rng: np.random.Generator) -> str:
    return str(rng.choice(sorted(record)))


def _other_name(record, rng):
    name = _pick(record, rng)
    other = str(rng.choice(["", name.upper(), name + "\n", "x" * 1000, "\x00", "ü", "input_ids "]))
    return {(other if key == name else key): values for key, values in record.items()}


def _other_dtype(record, rng):
    name = _pick(record, rng)
    dtype = rng.choice(["int64", "float32", "float64", "int32", "bytes"])
    values = record[name]
    return {**record, name: np.array([b"\xff\x00"] * values.size, object) if dtype == "bytes" else values.astype(dtype)}


def _other_length(record, rng):
    name = _pick(record, rng)
    return {**record, name: np.resize(record[name], int(rng.integers(0, 40)))}


def _out_of_range(record, rng):
    name = str(rng.choice(["input_ids", "input_mask", "masked_lm_positions", "next_sentence_labels"]))
    values = record[name].copy()
    values[rng.integers(0, values.size)] = rng.choice([-1, -(2**31), 2**31 - 1, 500, 12, 2])
    return {**record, name: values}


def _not_finite(record, rng):
    values = record["masked_lm_weights"].copy()
    values[rng.integers(0, 3)] = rng.choice([np.nan, np.inf, -np.inf])
    return {**record, "masked_lm_weights": values}


def _no_field(record, rng):
    gone = _pick(record, rng)
    return {} if rng.integers(0, 4) == 0 else {name: values for name, values in record.items() if name != gone}


def _long_length(files: Files, rng: np.random.Generator) -> Files:
    data = files["part-0"]
    length = int(rng.choice([-1, 0, 1, 2**31, 2**31 + 1, 2**62, -(2**63), len(data), len(data) - 8]))
    return {**files, "part-0": length.to_bytes(8, "little", signed=True) + data[8:]}


def part_mutations() -> Dict[str, Mutation]:
    changes = {
        "another field name": _other_name,
        "another dtype": _other_dtype,
        "another length": _other_length,
        "a value out of range": _out_of_range,
        "a weight that is not finite": _not_finite,
        "no such field": _no_field,
    }
    return {
        **{name: _on_record(change) for name, change in changes.items()},
        "a wrong length of a record": _long_length,
    }


# --- configuration files

YAML = """\
plugins: [inter_first, bert, wiki_ofrecord]
cluster:
  nnodes: 2
  nproc_per_node: 2
  master_addr: "10.0.0.1"
  device: auto
parallel: {nums_split: 2, grad_acc_steps: 4, shard: none}
train:
  train_steps: 200
  epochs: null
  seed: 1234
  shuffle: true
  output_dir: runs/a b
learning_rate: 1.0e-3
model:
  num_hidden_layers: 2
  hidden_dropout_prob: 0.1
data:
  ofrecord_path: /nowhere/part-0
"""

_ODD_VALUES: List[str] = [
    "",
    "~",
    "[]",
    "{}",
    "[[1, 2], 3]",
    "{a: {b: c}}",
    ".nan",
    ".inf",
    "-.inf",
    "1e999",
    "-1",
    "0",
    "9" * 400,
    "0x1F",
    "1_000",
    "1:30",
    "yes",
    "No",
    "true",
    "2020-01-01",
    "2020-13-45",
    "'x\ty'",
    '"\\ud800"',
    '"\\0"',
    '"a\\nb"',
    '"\\x1b[2J"',
    "&a [*a]",
    "*nobody",
    "!!bool maybe",
    "!!int ''",
    "!!float ''",
    "!!timestamp x",
    "!!binary '%'",
    "!!binary aGk=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!python/object:os.system x",
    "!!map x",
    "!!seq x",
    "!!str [a]",
    "<<: x",
    "? x",
    "| \n  a\n   b",
    "> a",
    "@x",
    "`x",
    "%x",
    "'open",
    '"open',
    "[open",
    "{open",
    "- a",
    "\u2028",
    "\x85",
    "\ufeff",
    "&a a b: *a",
    "!x y",
    "!!null x",
    "!!merge x",
    "!<tag:yaml.org,2002:int> x",
]
_ODD_KEYS: List[str] = [
    "",
    "seed",
    "<<",
    "plugins",
    "strategy",
    "train",
    "'a\\nb'",
    '"a\\nb"',
    "7",
    "null",
    "[a]",
    "{a: b}",
    "? a",
    "!!bool x",
    "&k k",
    "*k",
    "x" * 2000,
    "train.seed",
    "grad-acc-steps",
    "gpu_num_per_node",
    '"\\e[31m"',
    "!!binary aGk=",
]


def _on_line(change: Any) -> Mutation:
    def mutation(files: Files, rng: np.random.Generator) -> Files:
        lines = files["run.yaml"].decode().splitlines()
        number = int(rng.integers(0, len(lines)))
        lines[number : number + 1] = change(lines[number], rng)
        return {"run.yaml": "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")}

    return mutation


def _another_value(line: str, rng: np.random.Generator) -> List[str]:
    return [line.partition(":")[0] + ": " + str(rng.choice(_ODD_VALUES))]


def _another_key(line: str, rng: np.random.Generator) -> List[str]:
    indent = line[: len(line) - len(line.lstrip())]
    return [indent + str(rng.choice(_ODD_KEYS)) + ":" + line.partition(":")[2]]


def _bomb(files: Files, rng: np.random.Generator) -> Files:
    """One value of a few lines that stands for 10^30 of them."""
    lines = ["&x0 [a, a, a, a, a, a, a, a, a, a]", *(f"&x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 30))]
    key = str(
        rng.choice(
            ["seed", "shuffle", "output_dir", "stages", "plugins", "strategy", "train", "learning_rate", "unknown"]
        )
    )
    selected = "" if key == "plugins" else "plugins: [manual_placement, bert, wiki_ofrecord]\n"
    return {"run.yaml": (f"{selected}{key}:\n  [" + ",\n   ".join(lines) + "]\n").encode()}


def yaml_mutations() -> Dict[str, Mutation]:
    def deep(files: Files, rng: np.random.Generator) -> Files:
        return {
            "run.yaml": b"seed: "
            + str(rng.choice(["[", "{a: ", "- ", "? ", "&a "])).encode() * int(rng.choice([1, 10, 500]))
        }

    return {
        "another value": _on_line(_another_value),
        "another key": _on_line(_another_key),
        "one more value": _on_line(_another_value),
        "a line twice": _on_line(lambda line, rng: [line, line]),
        "a line less": _on_line(lambda line, rng: []),
        "another indent": _on_line(lambda line, rng: [" " * int(rng.integers(0, 9)) + line.lstrip()]),
        "a tab": _on_line(lambda line, rng: ["\t" + line]),
        "aliases of aliases": _bomb,
        "deep nesting": deep,
    }


def read_config(folder: Path) -> None:
    config, plugins = parse(["--config", str(folder / "run.yaml")])
    _check_values(config, plugins)
    (folder / "again.yaml").write_text(config.to_yaml(), encoding="utf-8")
    again, _ = parse(["--config", str(folder / "again.yaml")])
    assert again.to_flat_dict() == config.to_flat_dict() and again.plugins == config.plugins, (
        "it does not read back the same"
    )


def _check_values(config: Any, plugins: Any) -> None:
    options = plugins.options()
    assert config.to_flat_dict().keys() == {option.name for option in options}
    for option in options:
        value = getattr(config, option.name)
        if value is None:
            assert option.default is None, option.name
        else:
            assert isinstance(value, option.type) and (option.choices is None or value in option.choices), option.name
            assert option.minimum is None or value >= option.minimum, option.name
            assert option.maximum is None or value <= option.maximum, option.name


# --- checkpoints

#: Beside a checkpoint whose checksums were made anew after the damage.
_SIGNED = "signed-again"


def read_checkpoint(folder: Path) -> None:
    found = find(str(folder), None, ())
    assert found.path is not None
    checkpoint = Checkpoint(found.path)
    describe(found.path)
    for name, shape in SHAPES.items():
        spec = ParameterSpec(name, shape)
        for kind, array in (("", checkpoint.parameter(spec)), ("exp_avg", checkpoint.optimizer("exp_avg", spec))):
            assert array.shape == shape and array.dtype == np.float32, name
            # What passes its checksums is what was saved, bit for bit.
            assert (folder / _SIGNED).exists() or np.array_equal(array, value(name, kind, 5)), name


@functools.lru_cache(maxsize=None)
def _checkpoint() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        save_alone(Path(folder), 5)
        return {path.name: path.read_bytes() for path in (Path(folder) / "checkpoints" / "step_0000005").iterdir()}


def _signed(files: Files, content: Dict[str, Any]) -> Files:
    """With checksums that fit what the files hold now."""
    for name, entry in content["files"].items() if isinstance(content.get("files"), dict) else ():
        if name in files and isinstance(entry, dict):
            entry.update(sha256=hashlib.sha256(files[name]).hexdigest(), bytes=len(files[name]))
    content.pop("sha256", None)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return {**files, "checkpoint.json": json.dumps({**content, "sha256": digest}).encode(), _SIGNED: b""}


def _other_entry(files: Files, rng: np.random.Generator) -> Files:
    """One value of the manifest, at any depth, is another or gone."""
    content = json.loads(files["checkpoint.json"])
    change_somewhere(content, rng)
    return _signed(files, content)


def _other_tensors(files: Files, rng: np.random.Generator) -> Files:
    """A file of tensors is damaged, and its checksum fits."""
    name = str(rng.choice([name for name in files if name.endswith(".safetensors")]))
    data = bytearray(files[name])
    for position in rng.integers(0, min(len(data), 300), int(rng.integers(1, 6))):
        data[position] = int(rng.integers(0, 256))
    return _signed(
        {**files, name: bytes(data[: int(rng.integers(0, len(data)))] if rng.integers(0, 3) == 0 else data)},
        json.loads(files["checkpoint.json"]),
    )


TARGETS = {
    # Every line names the folder, and the record unless a whole file is at fault.
    "ofrecord": Target(
        read_parts,
        lambda: dict(_parts()),
        part_mutations,
        r"{folder}/part-\d record \d+: |^no files part-\* in {folder}",
    ),
    "index": Target(
        read_parts,
        lambda: dict(_indexed()),
        lambda: {"another index": _other_index},
        r"{folder}/.+|^no files part-\* in {folder}",
    ),
    "config": Target(
        read_config,
        lambda: {"run.yaml": YAML.encode()},
        yaml_mutations,
        r"^--config {folder}/(run|again)\.yaml|^no plugins are selected",
    ),
    "checkpoint": Target(
        read_checkpoint,
        lambda: dict(_checkpoint()),
        lambda: {"another entry, signed": _other_entry, "other tensors, signed": _other_tensors},
        r"^(--resume|checkpoint) {folder}",
    ),
    **PLUGIN_TARGETS,
    **SQUAD_TARGETS,
    **HUGGINGFACE_TARGETS,
}
