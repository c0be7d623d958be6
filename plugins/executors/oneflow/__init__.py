"""oneflow: one OneFlow nn.Graph over the stages, fed by each rank with the fields of its own stage."""

from __future__ import annotations

from typing import Dict, Mapping

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.executor import Collectives, Executor, Program, ProgramSpec
from pipeloom.core.contract.topology import Cluster

_IMPORT = "from pipeloom.plugins.executors.oneflow.engine import import_oneflow"
# What every step of data parallelism rests on: parts that are on two ranks, added up, and the sum on both.
_SUM = f"""
{_IMPORT}
flow = import_oneflow()
rank, both = flow.env.get_rank(), flow.placement("cpu", [0, 1])
part = flow.ones(1024) * (rank + 1)
total = part.to_global(placement=both, sbp=flow.sbp.partial_sum).to_global(sbp=flow.sbp.broadcast).to_local().numpy()
assert (total == 3).all(), total
"""


class OneFlow(Executor):
    """The engine that pipeloom comes with: OneFlow 0.9.0 on CPUs or CUDA devices."""

    name = "oneflow"
    optimizers = ("adamw", "sgd")
    packages = ("oneflow", "numpy")
    import_probe = f"{_IMPORT}; print(import_oneflow().__version__)"
    exchange_probe = _SUM

    def check(self, cluster: Cluster, config) -> None:
        if config.precision == "amp" and cluster.device_type == "cpu":
            raise UsageError(
                "--precision amp needs CUDA devices: OneFlow 0.9.0 has no half-precision products on a CPU; "
                "leave it out"
            )

    def environment(self, inherited: Mapping[str, str]) -> Dict[str, str]:
        from pipeloom.plugins.executors.oneflow.processor import thread_variables

        return {**thread_variables(), **inherited}

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
