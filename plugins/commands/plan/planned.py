"""A job of the command line, planned for its cluster, here or elsewhere, and evaluated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Optional, Sequence

from pipeloom.core.config.config import Config
from pipeloom.core.config.origins import origins_in_errors
from pipeloom.core.contract.topology import Cluster
from pipeloom.core.host.calls import blaming
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.core.planning.machines import Known, cluster_of_file, known_machines
from pipeloom.core.planning.plan import Plan
from pipeloom.core.planning.planner import make_plan
from pipeloom.core.planning.worth import Evaluation, evaluate


@dataclass(frozen=True)
class Planned:
    """State a planned job: its configuration, plugins, plan, machines and what the plan is worth on them."""

    config: Config
    plugins: PluginManager
    plan: Plan
    known: Known
    worth: Evaluation
    name: str = ""

    @classmethod
    def of(cls, arguments: Sequence[str], name: str = "") -> Planned:
        """Plan the job that the options ``arguments`` of ``train`` describe. Raises ``UsageError``."""
        from pipeloom.core.commands.cli import parse  # it imports the table of commands

        config, plugins = parse(arguments)
        return cls.planned(config, plugins, cluster_of_file(config), name)

    @classmethod
    def planned(cls, config: Config, plugins: PluginManager, elsewhere: Optional[Cluster], name: str = "") -> Planned:
        """Plan ``config``, for the cluster ``elsewhere`` where that is given."""
        if elsewhere is not None:
            config = _there(config, elsewhere)
        with origins_in_errors(config), blaming(plugins):
            plan = make_plan(config, plugins, elsewhere=elsewhere)
            known = known_machines(plan.config, plan.cluster)
            executor = plugins.hook.pipeloom_executor(config=plan.config)
            optimizer = plugins.hook.pipeloom_build_optimizer(
                config=plan.config, parameters=list(plan.model.parameters)
            )
            return cls(config, plugins, plan, known, evaluate(plan, known.machines, executor, optimizer), name)

    @property
    def elsewhere(self) -> Optional[Cluster]:
        return self.plan.cluster if self.config.cluster_file is not None else None

    def changed(self, **options: Any) -> Planned:
        """Return the same job with other options, laid out anew."""
        return self.planned(self.config.replace(**options), self.plugins, self.elsewhere, self.name)

    def evaluated(self, plan: Plan) -> Evaluation:
        """Return what another plan of this job is worth."""
        executor = self.plugins.hook.pipeloom_executor(config=plan.config)
        optimizer = self.plugins.hook.pipeloom_build_optimizer(
            config=plan.config, parameters=list(plan.model.parameters)
        )
        return evaluate(plan, self.known.machines, executor, optimizer)

    def on(self, known: Known) -> Evaluation:
        """Return what the plan is worth on other machines of the same number."""
        return replace(self, known=known).evaluated(self.plan)


def _there(config: Config, cluster: Cluster) -> Config:
    """``config`` as it would be resolved on ``cluster``."""
    values: Dict[str, Any] = {"device": cluster.device_type}
    if cluster.device_type == "cuda":
        for option in config.declared.values():
            if option.cuda_default is not None and option.name not in config.given:
                values[option.name] = option.cuda_default
    return config.replace(**values)
