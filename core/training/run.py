"""A run as plugins see it: its plan, its directory, its place among the ranks."""

from __future__ import annotations

import fcntl
import json
import platform
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from pipeloom import __version__
from pipeloom.core.base.characters import whole
from pipeloom.core.base.errors import RunError, UsageError
from pipeloom.core.base.files import replace_file
from pipeloom.core.base.output import append_to_log
from pipeloom.core.checkpoint.resume import run_name
from pipeloom.core.checkpoint.store import FOLDER, Store
from pipeloom.core.contract.executor import Collectives, Training
from pipeloom.core.launch.control.rank_link import RankLink
from pipeloom.core.planning.plan import Plan
from pipeloom.core.training.phases import Phases

#: What ``--save_final_weights`` writes into the run directory.
FINAL_WEIGHTS = "final_weights.safetensors"
#: Packages whose versions a run notes beside those of its engine.
_PACKAGES = ("numpy", "pluggy", "tokenizers", "safetensors", "tensorboard", "protobuf")


class Run:
    """Handed to the life-cycle hooks. ``is_main`` is true on rank 0, which writes the logs."""

    def __init__(self, plan: Plan, plugins, directory: Path, rank: int, started: Optional[float] = None) -> None:
        self.plan, self.config, self.plugins = plan, plan.config, plugins
        self.directory, self.rank = directory, rank
        self.is_main = rank == 0
        self.total_steps: int = plan.config.train_steps
        self.link = RankLink.from_environment(plan.config.stop_at)
        #: Steps that were done when this process began; more than 0 in a resumed run.
        self.start_step = 0
        #: Steps that are done by now.
        self.done_steps = 0
        self.started = time.time() if started is None else started
        #: What this process does beside the steps of the engine.
        self.phases = Phases(self.link.page)
        #: The engine's steps, and its messages between all ranks; there from ``pipeloom_on_run_start`` on.
        self.training: Training
        self.collectives: Collectives
        self._log: Optional[Path] = None

    def open(self) -> None:
        """Write ``config.yaml`` and ``env.json`` and begin ``train.log``; on rank 0 alone. Raises ``RunError``."""
        if self.is_main:
            try:
                replace_file(self.directory / "config.yaml", self.config.to_yaml().encode())
                environment = json.dumps(self.environment(), indent=2) + "\n"
                replace_file(self.directory / "env.json", environment.encode())
            except OSError as error:
                raise RunError(f"cannot write into {self.directory}: {error.strerror or error}") from error
            self._log = self.directory / "train.log"

    def note(self, text: str) -> None:
        """Append ``text`` to ``train.log``, with the time; nothing on other ranks."""
        if self._log is not None:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            append_to_log(self._log, "".join(f"{stamp} {line}\n" for line in text.splitlines()))

    def say(self, text: str) -> None:
        """Print ``text`` on the main rank and append it to ``train.log``."""
        if self.is_main:
            print(text, flush=True)
            self.note(text)

    def close(self) -> None:
        self._log = None

    def environment(self) -> Dict[str, Any]:
        """Versions, plugins and cluster, as ``env.json`` holds them."""
        plan, engine = self.plan, self.plugins.hook.pipeloom_executor(config=self.config)
        return {
            "pipeloom": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: _version(name) for name in dict.fromkeys((*engine.packages, *_PACKAGES))},
            "plugins": self.plugins.selection,
            "command": sys.argv,
            "cluster": {
                "nodes": plan.cluster.nodes,
                "devices_per_node": plan.cluster.devices_per_node,
                "device_type": plan.cluster.device_type,
                "logical": plan.cluster.logical,
            },
            "mesh": {"pipeline": plan.mesh.pipeline, "data": plan.mesh.data, "tensor": plan.mesh.tensor},
            "split": list(plan.split),
            "placement": [list(ranks) for ranks in plan.placement.stages],
            "parameters": plan.model.size,
        }


def _version(package: str) -> Optional[str]:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def choose_directory(output_dir: Optional[str], plugins, resumed: Optional[Any] = None, shared: bool = False) -> Path:
    """Make the run directory: ``output_dir`` itself, that of the run that ``resumed`` goes on with, or
    ``runs/<time>-<plugins>``.

    ``shared``: other nodes may have made it already. Raises ``UsageError`` when it holds another run or
    cannot be written.
    """
    own = resumed.directory if resumed is not None else None
    if output_dir is None and own is not None:
        path = own
    elif output_dir is None:
        name = time.strftime("%Y%m%d-%H%M%S-") + run_name(plugins)
        path, number = Path("runs") / name, 1
        while path.exists() and not shared:
            number += 1
            path = Path("runs") / f"{name}-{number}"
    else:
        path = Path(output_dir).expanduser()
    full = str(path.absolute())
    if whole(full) != full:
        raise UsageError(
            f"--output_dir {full}: the path is no UTF-8 text, which the TensorBoard logger needs; choose another"
        )
    if not shared and own is None and ((path / "config.yaml").exists() or Store(path / FOLDER).checkpoints()):
        raise UsageError(
            f"--output_dir {path} already holds a run: choose another directory, or go on with it by --resume auto"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        # One without a name: ranks that look at the same moment must not remove each other's.
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise UsageError(f"--output_dir {path}: {error.strerror}; choose a directory that can be written") from None
    return path.resolve()


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """The run directory belongs to this process while this lasts, also if it is killed then and there.

    Raises ``UsageError`` where it belongs to another: two runs would write over each other's logs and checkpoints.
    """
    with open(directory / ".lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"--output_dir {directory}: another run is writing there at this moment; wait for its end, or choose "
                f"another "
                "directory"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
