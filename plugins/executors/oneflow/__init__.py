"""oneflow: one OneFlow nn.Graph over the stages, fed by each rank with the fields of its own stage."""

from __future__ import annotations

from functools import partial
from typing import Any, Dict, List, Mapping, Optional, Tuple

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.core.contract.executor import Collectives, Executor, Peak, Program, ProgramSpec
from pipeloom.core.contract.rank_load import PredictedMemory, RankLoad
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
# A product by the engine against one in float64, and how fast it is; ends with what serves it.
_PRODUCT = f"""
import time
import numpy as np
from pipeloom.plugins.executors.oneflow.blas import bundled, settle
{_IMPORT}
blas, flow = settle() or bundled(), import_oneflow()
rng = np.random.default_rng(1)
a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((512, 1024), (256, 1024)))
x, w = flow.from_numpy(a), flow.from_numpy(b)
exact = a.astype(np.float64) @ b.T.astype(np.float64)
off, best = 0.0, 9.0
for _ in range(10):
    began = time.perf_counter()
    for _ in range(9):
        flow.matmul(x, w, transpose_b=True)
    product = flow.matmul(x, w, transpose_b=True).numpy()
    best = min(best, (time.perf_counter() - began) / 10)
    off = max(off, np.abs(product - exact).max() / np.abs(exact).max())
# A sum of 1024 products in float32 is off by 1e-6 of the largest; a wrong row by 1e-2 and more.
assert off < 1e-5, f"{{blas}}: products of the engine are off by {{off:.1e}}"
print(f"{{blas}}: products right to {{off:.0e}}, {{2 * 512 * 256 * 1024 / best / 1e9:.0f}} GFLOP/s")
"""


#: Options that CPUs have no use for.
CUDA_OPTIONS = ("fused_kernels", "nccl_fusion_mbytes", "nccl_fusion_ops", "nccl_compute_stream")


class OneFlow(Executor):
    """The engine that pipeloom comes with: OneFlow 0.9.0 on CPUs or CUDA devices."""

    name = "oneflow"
    optimizers = ("adamw", "sgd")
    packages: Tuple[str, ...] = ("oneflow", "numpy")
    import_probe = f"{_IMPORT}; print(import_oneflow().__version__)"
    exchange_probe = _SUM
    product_probe = _PRODUCT

    def __init__(self, config: Any = None) -> None:
        self._blas: str = getattr(config, "blas", "auto")
        self._threads: Optional[int] = getattr(config, "threads_per_rank", None)
        self._fused: bool = getattr(config, "fused_kernels", None) is not False
        self._config = config
        self._lines: List[str] = []
        if self._blas != "openblas":
            self.packages = (*self.packages, "mkl")

    def check(self, cluster: Cluster, config) -> None:
        for name in CUDA_OPTIONS:
            if cluster.device_type == "cpu" and getattr(config, name, None) is not None:
                raise UsageError(f"--{name} has no effect on CPUs: leave it out, or use CUDA devices")
        if config.precision == "amp" and cluster.device_type == "cpu":
            raise UsageError(
                "--precision amp needs CUDA devices: OneFlow 0.9.0 has no half-precision products on a CPU; "
                "leave it out"
            )

    def memory(self, load: RankLoad) -> PredictedMemory:
        from pipeloom.plugins.executors.oneflow.registers import memory_of

        return memory_of(load)

    def environment(self, inherited: Mapping[str, str], cluster: Optional[Cluster] = None) -> Dict[str, str]:
        from pipeloom.plugins.executors.oneflow import blas, processor

        found = {**processor.thread_variables(), **inherited}
        if cluster is None or cluster.device_type != "cpu":
            return found
        ranks = cluster.size if cluster.logical else cluster.devices_per_node
        threads = self._threads or max(1, processor.cores() // ranks)
        chosen = blas.bundled() if self._blas == "openblas" else blas.choose(threads, inherited)
        if self._blas == "mkl" and not chosen.library:
            why = chosen.reason or f"the package 'mkl' is not installed: {blas.INSTALL}"
            raise UsageError(f"--blas mkl: {why}; --blas openblas is the one that OneFlow brings")
        settings = blas.variables(chosen, inherited)
        return {
            **settings,
            **found,
            **{name: settings[name] for name in ("LD_PRELOAD", blas.CHOICE) if name in settings},
        }

    def start(self) -> None:
        from pipeloom.plugins.executors.oneflow import blas
        from pipeloom.plugins.executors.oneflow.engine import import_oneflow

        import_oneflow()
        from pipeloom.plugins.executors.oneflow.cuda import Nccl

        Nccl.of(self._config).apply()
        serves = blas.settle()
        self._lines = [f"blas       {serves}"] if serves else []

    def peak(self, cluster: Cluster, config: Any) -> Optional[Peak]:
        from pipeloom.plugins.executors.oneflow.peak import peak_of

        return peak_of(cluster, config.precision == "amp")

    def product_flops(self, half_precision: bool, seconds: float) -> Optional[float]:
        from pipeloom.plugins.executors.oneflow.peak import product_flops

        return product_flops("cpu" if self._config is None or self._on_cpu() else "cuda", half_precision, seconds)

    def _on_cpu(self) -> bool:
        from pipeloom.core.base.devices import resolve_device

        return resolve_device(self._config.device) == "cpu"

    def describe(self) -> List[str]:
        return self._lines

    def build(self, spec: ProgramSpec) -> Program:
        from pipeloom.plugins.executors.oneflow import program

        return program.GraphProgram(spec, self._fused)

    def collectives(self, cluster: Cluster, rank: int) -> Collectives:
        from pipeloom.plugins.executors.oneflow.exchange import EngineCollectives

        return EngineCollectives(cluster)


@pipeloom.hookimpl
def pipeloom_add_options(options):
    options.add(
        "blas",
        str,
        "auto",
        section="cluster",
        resume="free",
        choices=("auto", "mkl", "openblas"),
        model_card=False,
        help="what multiplies matrices on a CPU: Intel MKL, by pip install 'pipeloom[mkl]', or the OpenBLAS that "
        "OneFlow brings; auto: MKL where it is installed and works",
    )
    options.add(
        "threads_per_rank",
        int,
        section="cluster",
        resume="free",
        minimum=1,
        per_node=True,
        model_card=False,
        help="threads of a rank for a product by MKL (default: the cores of the machine divided by the ranks on it); "
        "with OpenBLAS always 1",
    )
    add = partial(options.add, section="cluster", resume="free", model_card=False)
    add(
        "fused_kernels",
        bool,
        help="on CUDA devices: products with bias, LayerNorm and softmax by the engine's fused kernels; false = by "
        "plain operations, as on CPUs (default: true)",
    )
    add(
        "nccl_fusion_mbytes",
        int,
        minimum=1,
        help="on CUDA devices: gradients are exchanged together up to so many megabytes (default: the engine's)",
    )
    add(
        "nccl_fusion_ops",
        int,
        minimum=1,
        help="on CUDA devices: so many exchanges become one at most (default: the engine's)",
    )
    add(
        "nccl_compute_stream",
        bool,
        help="on CUDA devices: exchanges wait in the order of the computation: less memory, no overlap (default: the "
        "engine's, false)",
    )


@pipeloom.hookimpl(trylast=True)
def pipeloom_executor(config):
    return OneFlow(config)
