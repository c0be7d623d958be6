"""``checkpoint.json``: what a checkpoint holds, and the checksums that say whether it is whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from pipeloom.core.base.errors import shown
from pipeloom.core.base.files import sha256_of

MANIFEST = "checkpoint.json"
#: Raised when an older pipeloom could not read what is written now, or would understand it otherwise. In format 1
#: ``given`` has the options of the last command alone; what those before it gave shows in ``config`` alone.
FORMAT = 2
_READ = (1, FORMAT)
_OPTIMIZER = "optimizer/"


class BadCheckpoint(Exception):
    """A checkpoint that cannot be used. The message says what is wrong with it, in one line, without its path."""


@dataclass
class Position:
    """How far a run is. ``step``: steps done; ``data_step``: batches taken, which is more where some were ``skipped``.

    ``norm_since``: the step after which the gradient norms are being added up for the next log line. ``overflows``:
    steps that the dynamic loss scale left out (their batches are among those taken), ``loss_scale``: where it is.
    """

    step: int = 0
    data_step: int = 0
    skipped: int = 0
    norm_since: int = 0
    overflows: int = 0
    loss_scale: Optional[Dict[str, float]] = None

    @classmethod
    def of(cls, position: Mapping[str, Any]) -> "Position":
        """Return that of a checkpoint; older ones know nothing of loss scales."""
        return cls(**{name: position[name] for name in cls.__dataclass_fields__ if name in position})


@dataclass(frozen=True)
class FileEntry:
    """A file of a checkpoint: its checksum, its size in bytes, and the tensors in it."""

    sha256: str
    bytes: int
    tensors: List[str]


@dataclass(frozen=True)
class Manifest:
    """The state of a run that is not a tensor, and where the tensors are.

    ``position``: ``step`` (steps done), ``data_step`` (batches taken, skipped ones included), ``skipped``, ``samples``,
    ``norm_sum`` and ``norm_since`` (gradient norms that are not logged yet, and since which step), ``overflows`` and
    ``loss_scale`` (see ``Position``).
    ``dropout``: what keys the masks; they are a function of it and have no state.
    ``parameters``: name -> shape. ``optimizer``: the name of its class.
    ``answers``: which plugin answers the hooks that decide the mathematics. ``given``: the options that the user
    set, by any command of the run.
    ``files``: by their names in the folder; they hold the parameters by name, and ``<kind>/<name>`` of the optimizer.
    """

    position: Dict[str, Any]
    dropout: Dict[str, Any]
    config: Dict[str, Any]
    given: List[str]
    plugins: Dict[str, str]
    answers: Dict[str, str]
    model: Dict[str, Any]
    parameters: Dict[str, List[int]]
    optimizer: str
    data: str
    layout: Dict[str, Any]
    versions: Dict[str, Any]
    metrics: Dict[str, float] = field(default_factory=dict)
    evaluation: Dict[str, float] = field(default_factory=dict)
    files: Dict[str, FileEntry] = field(default_factory=dict)
    saved_at: str = ""
    format: int = FORMAT

    @property
    def step(self) -> int:
        return self.position["step"]

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(entry.bytes for entry in self.files.values())

    @property
    def optimizer_kinds(self) -> List[str]:
        """What the optimizer keeps for each parameter (``exp_avg``, ...)."""
        names = [tensor for entry in self.files.values() for tensor in entry.tensors]
        return sorted({name[len(_OPTIMIZER) :].partition("/")[0] for name in names if name.startswith(_OPTIMIZER)})

    def option(self, name: str, default: Any = None) -> Any:
        """Return the value of an option, in whatever section of the configuration it is."""
        return self.options().get(name, default)

    def options(self) -> Dict[str, Any]:
        """Return the values of all options by name."""
        return {
            name: value
            for section in self.config.values()
            if isinstance(section, dict)
            for name, value in section.items()
        }

    def to_bytes(self) -> bytes:
        """Return the content of ``checkpoint.json``."""
        content = {**asdict(self), "format": FORMAT}
        return (json.dumps({**content, "sha256": _sha256(content)}, indent=1) + "\n").encode()


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint.

    Raises :class:`BadCheckpoint` where it is absent, damaged or of another format.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadCheckpoint(f"{MANIFEST}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{MANIFEST} is damaged ({type(error).__name__})") from None
    if not isinstance(content, dict) or "sha256" not in content:
        raise BadCheckpoint(f"{MANIFEST} is damaged (no checksum)")
    if _sha256({name: value for name, value in content.items() if name != "sha256"}) != content["sha256"]:
        raise BadCheckpoint(f"{MANIFEST} is damaged (its checksum differs)")
    if content.get("format") not in _READ:
        raise BadCheckpoint(f"{MANIFEST} is of a format that this version of pipeloom does not know")
    del content["sha256"]
    wrong = _what_is_wrong(content)
    if wrong:
        raise BadCheckpoint(f"{MANIFEST}: {wrong}")
    files = {name: FileEntry(**entry) for name, entry in content.pop("files").items()}
    return Manifest(files=files, **content)


def _what_is_wrong(content: Mapping[str, Any]) -> str:
    """Return what does not fit in a manifest whose checksum is right but that this program did not write, or ""."""
    simple = {"int": int, "str": str, "List[str]": list}
    kinds = {field.name: simple.get(str(field.type), dict) for field in fields(Manifest)}
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            return f"'{name}' is missing or of a wrong type"
    unknown = sorted(set(content) - set(kinds))
    if unknown:
        return f"'{shown(unknown[0])}' is not known"
    position, layout, model = content["position"], content["layout"], content["model"]
    if any(
        type(position.get(name)) is not int or position[name] < 0
        for name in ("step", "data_step", "skipped", "norm_since", "samples")
    ) or type(position.get("norm_sum")) not in (int, float):
        return "'position' is damaged"
    scale = position.get("loss_scale")
    if type(position.get("overflows", 0)) is not int or (
        scale is not None
        and not (
            isinstance(scale, dict)
            and type(scale.get("scale")) in (int, float)
            and 0 < scale["scale"] < float("inf")
            and type(scale.get("good_steps")) is int
            and scale["good_steps"] >= 0
        )
    ):
        return "'position' is damaged"
    if (
        any(not isinstance(layout.get(name), dict) for name in ("mesh", "cluster"))
        or type(model.get("size")) is not int
        or any(type(layout["mesh"].get(name)) is not int for name in ("pipeline", "data", "tensor"))
        or any(not isinstance(model.get(name), str) for name in ("name", "task"))
        or not isinstance(model.get("huggingface", {}), dict)
    ):
        return "'layout' or 'model' is damaged"
    if any(type(value) not in (int, float) for name in ("metrics", "evaluation") for value in content[name].values()):
        return "'metrics' or 'evaluation' is damaged"
    if any(
        not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape)
        for shape in content["parameters"].values()
    ):
        return "'parameters' is damaged"
    for name, entry in content["files"].items():
        if (
            not isinstance(entry, dict)
            or set(entry) != {"sha256", "bytes", "tensors"}
            or not isinstance(entry["tensors"], list)
            or any(not isinstance(tensor, str) for tensor in entry["tensors"])
            or Path(name).name != name
            or name in ("", ".", "..")
        ):
            return f"'files' is damaged ({shown(name)})"
    return ""


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Read every file and compare. Raises :class:`BadCheckpoint` naming the first that is missing or differs."""
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != entry.bytes:
                raise BadCheckpoint(f"{name} has {size} bytes, it should have {entry.bytes}")
            if sha256_of(path) != entry.sha256:
                raise BadCheckpoint(f"{name} is damaged (its checksum differs)")
        except OSError as error:
            raise BadCheckpoint(f"{name}: {error.strerror or error}") from None


def verify(folder: Path) -> Manifest:
    """Read every byte of a checkpoint and return its manifest. Raises :class:`BadCheckpoint` where it is not whole."""
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    return manifest


def tensor_files(manifest: Manifest) -> Dict[str, str]:
    """Return the file of each tensor by the tensor's name."""
    return {tensor: name for name, entry in manifest.files.items() for tensor in entry.tensors}


def optimizer_key(kind: str, parameter: str) -> str:
    """Return the name under which the optimizer's state of a ``kind`` for a parameter is stored."""
    return f"{_OPTIMIZER}{kind}/{parameter}"
