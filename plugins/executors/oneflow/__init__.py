"""oneflow: one OneFlow nn.Graph over the stages, fed by each rank with the fields of its own stage."""

from __future__ import annotations

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.executor import Collectives, Executor, Program, ProgramSpec
from pipeloom.core.contract.topology import Cluster


class OneFlow(Executor):
    """The engine that pipeloom comes with: OneFlow 0.9.0 on CPUs or CUDA devices."""

    name = "oneflow"
    optimizers = ("adamw", "sgd")
    packages = ("oneflow", "numpy")

    def check(self, cluster: Cluster, config) -> None:
        if config.precision == "amp" and cluster.device_type == "cpu":
            raise UsageError(
                "--precision amp needs CUDA devices: OneFlow 0.9.0 has no half-precision products on a CPU; "
                "leave it out"
            )

    def start(self) -> None:
        from pipeloom.plugins.executors.oneflow.engine import import_oneflow

        import_oneflow()

    def build(self, spec: ProgramSpec) -> Program:
        from pipeloom.plugins.executors.oneflow import program

        return program.GraphProgram(spec)

    def collectives(self, cluster: Cluster, rank: int) -> Collectives:
        from pipeloom.plugins.executors.oneflow.exchange import EngineCollectives

        return EngineCollectives(cluster)


@pipeloom.hookimpl(trylast=True)
def pipeloom_executor(config):
    return OneFlow()
