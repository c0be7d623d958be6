"""What a launcher tells its ranks, in one variable: PIPELOOM_JOB.

A rank neither reads the command line nor asks for a layout again. It opens the data and builds the model, which no text
can carry.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from pipeloom.core.base.errors import UsageError
from pipeloom.core.base.variables import JOB
from pipeloom.core.config.config import Config
from pipeloom.core.contract.placement import Placement
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.host.tracing import OPTION, Trace
from pipeloom.core.planning.plan import Plan
from pipeloom.core.planning.planner import Layout

#: Sets of names that a ``Config`` has beside the values.
_NAMES = ("given", "transient", "typed", "carried")


@dataclass(frozen=True)
class Job:
    """The facts of a start of the ranks.

    ``directory``: of the run. ``started``: when the command was given (Unix time). ``resume``: the checkpoint to go on
    from, "" to begin. ``config``: values, names and origins of the options as the command line gave them, and the
    plugins. ``layout``: cluster, mesh, split and stages, and options that the strategy chose.
    """

    directory: str
    started: float
    resume: str
    config: Dict[str, Any]
    layout: Dict[str, Any]

    @classmethod
    def of(cls, config: Config, plan: Plan, directory: str, started: float, resume: str) -> "Job":
        """The job of ``plan``, which was made from ``config``."""
        cluster, mesh = plan.cluster, plan.mesh
        options = {"values": config.to_flat_dict(), "plugins": list(config.plugins), "origins": config.origins}
        return cls(
            directory,
            started,
            resume,
            {**options, **{name: sorted(getattr(config, name)) for name in _NAMES}},
            {
                "cluster": [cluster.nodes, cluster.devices_per_node, cluster.device_type, cluster.logical],
                "mesh": [mesh.pipeline, mesh.data, mesh.tensor],
                "split": list(plan.split),
                "stages": [list(ranks) for ranks in plan.placement.stages],
                "options": dict(plan.chosen),
            },
        )

    def to_text(self) -> str:
        return json.dumps(vars(self), default=str)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Job":
        """The job that a launcher of ours has started this rank for. Raises ``UsageError`` for a text that no launcher
        writes."""
        try:
            return cls(**json.loads(environment[JOB]))
        except (ValueError, TypeError):
            raise UsageError(f"{JOB} in the environment is not what a launcher sets for its ranks: unset it") from None

    def restore(self) -> Tuple[Config, PluginManager]:
        """Load the plugins, and return the configuration as the command line gave it."""
        plugins = PluginManager()
        plugins.load(self.config["plugins"])
        if self.config["values"].get(OPTION):
            plugins.trace_to(Trace.open(self.config["values"][OPTION], os.environ))
        options = plugins.options()
        values = {
            # Of a plugin's own type; numbers and texts are the same in JSON.
            option.name: option.parse(value, JOB) if hasattr(option.type, "convert") else value
            for option in options
            for value in [self.config["values"][option.name]]
        }
        names: Dict[str, List[str]] = {name: self.config[name] for name in _NAMES}
        declared = {option.name: option for option in options}
        return Config(values, declared, self.config["plugins"], **names, origins=self.config["origins"]), plugins

    def decided(self) -> Tuple[Cluster, Layout]:
        """The cluster and the layout that the launcher's plan has."""
        cluster = Cluster(*self.layout["cluster"])
        placement = Placement.of(cluster, self.layout["stages"])
        mesh, split = Mesh(*self.layout["mesh"]), tuple(self.layout["split"])
        return cluster, Layout(mesh, split, placement, self.layout["options"])
