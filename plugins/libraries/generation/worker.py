"""A rank that goes on with prompts: its part of the model, and the loop that all ranks go through together."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

from pipeloom.core.base.devices import hide_gpus
from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import JOB
from pipeloom.core.contract.blocks import stage_inputs
from pipeloom.core.contract.core_fields import CORE_FIELDS
from pipeloom.core.contract.dataset import Field
from pipeloom.core.contract.executor import Program, ProgramSpec
from pipeloom.core.contract.topology import Cluster
from pipeloom.core.launch.control.rank_link import RankLink
from pipeloom.core.planning.planner import Layout
from pipeloom.plugins.libraries.generation.decoding_loop import Continuation, LoopSettings, generate
from pipeloom.plugins.libraries.generation.sampling import Sampling
from pipeloom.plugins.libraries.huggingface.opened_model import OpenedModel

_TO_DO, _FOUND = "job.json", "continuations.jsonl"


@dataclass(frozen=True)
class LaidOutModel:
    """Hold a model and where it runs."""

    opened: OpenedModel
    cluster: Cluster
    layout: Layout

    def build(self, rank: int) -> Program:
        """Start the engine, and make the parameters and blocks of this rank's stage."""
        model, config = self.opened.model, self.opened.config
        if self.cluster.device_type == "cpu":
            hide_gpus()
        # Nothing is read from samples; the engine asks for the kinds of all fields nevertheless.
        names = set(stage_inputs(model.blocks, model.blocks)) - {*CORE_FIELDS, *(field.name for field in model.labels)}
        fields = {name: Field(name, (config.seq_length,), "int32") for name in names}
        executor = self.opened.plugins.hook.pipeloom_executor(config=config)
        executor.check(self.cluster, config)
        executor.start()
        mesh, split, placement = self.layout[:3]
        return executor.build(
            ProgramSpec(
                model,
                split,
                placement,
                mesh,
                {**fields, **{field.name: field for field in model.labels}},
                rank,
                self.opened.values(),
            )
        )


class Desk:
    """The folder by which the command and its ranks hand each other prompts and what comes behind them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def job_text(self) -> str:
        """Return what the ranks find in ``PIPELOOM_JOB``."""
        return json.dumps({"directory": str(self._folder)})

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Desk:
        """Return the desk of the command that has started this rank. Raises ``UsageError`` where none has."""
        try:
            return cls(Path(json.loads(environment[JOB])["directory"]))
        except (KeyError, ValueError, TypeError):
            raise UsageError(f"{JOB} in the environment is not what 'generate' sets for its ranks: unset it") from None

    def put_job(self, prompts: Sequence[Sequence[int]], settings: LoopSettings) -> None:
        """Say what the ranks shall do, before they are started."""
        content = {"prompts": [list(prompt) for prompt in prompts], "settings": asdict(settings)}
        (self._folder / _TO_DO).write_text(json.dumps(content))

    def job(self) -> Tuple[List[List[int]], LoopSettings]:
        """Return the tokens of the prompts, and how to go on with them."""
        content = json.loads((self._folder / _TO_DO).read_text())
        settings = content["settings"]
        return content["prompts"], LoopSettings(**{**settings, "sampling": Sampling(**settings["sampling"])})

    def put_found(self, number: int, found: Continuation, seconds: float) -> None:
        """Add what comes behind a prompt, found after ``seconds``."""
        with open(self._folder / _FOUND, "a") as file:
            file.write(json.dumps({"number": number, "found": asdict(found), "seconds": seconds}) + "\n")

    def found(self) -> Tuple[Dict[int, Continuation], float]:
        """Return the continuations so far by the number of the prompt, and the seconds that they took."""
        file = self._folder / _FOUND
        lines = file.read_text().split("\n")[:-1] if file.exists() else []  # behind the last line end: not whole
        content = [json.loads(line) for line in lines]
        seconds = max((line["seconds"] for line in content), default=0.0)
        return {line["number"]: Continuation(**line["found"]) for line in content}, seconds


def work(laid_out: LaidOutModel, desk: Desk) -> None:
    """Go on with the prompts as a rank; rank 0 puts what was found where the command looks for it."""
    rank, link = int(os.environ["RANK"]), RankLink.from_environment()
    prompts, settings = desk.job()
    program = laid_out.build(rank)
    began = time.monotonic()
    for number, found in generate(program.decoder, prompts, settings, link.begin_step):
        if rank == 0:
            desk.put_found(number, found, time.monotonic() - began)
