"""What a rank computes at best: by the data sheet of its GPU, else measured by products."""

from __future__ import annotations

import time
from typing import List

import oneflow as flow

from pipeloom.core.base.devices import find_gpus
from pipeloom.core.base.gpu_peaks import gpu_peak
from pipeloom.core.contract.executor import Peak
from pipeloom.core.contract.topology import Cluster
from pipeloom.plugins.executors.oneflow.processor import cores

#: Rows and columns of the matrices, by the type of device; repetitions, of which the fastest counts.
_SIZES, _TIMES = {"cpu": 768, "cuda": 4096}, 5


def peak_of(cluster: Cluster, half_precision: bool) -> Peak:
    """Return the peak of a rank of ``cluster``. Ranks that share cores share them in equal parts."""
    if cluster.device_type == "cuda":
        names = {gpu.name for gpu in find_gpus().devices}
        known = {gpu_peak(name, half_precision) for name in names}
        (peak,) = known if len(known) == 1 else (None,)
        if peak is not None:
            return Peak(peak, f"data sheet of {', '.join(sorted(names))}")
        return Peak(product_flops("cuda", half_precision), "a product, measured")
    ranks = cluster.size if cluster.logical else cluster.devices_per_node
    return Peak(product_flops("cpu", False) * min(1.0, cores() / ranks), "a product, measured")


def product_flops(device: str, half_precision: bool, seconds: float = 0.0) -> float:
    """Return operations a second of a product of square matrices, a multiply-add counted as 2: the best of a few, or
    what is reached over ``seconds``, others that use the same cores or card included."""
    size = _SIZES[device]
    a = flow.ones(size, size, device=device, dtype=flow.float16 if half_precision else flow.float32)
    flow.matmul(a, a)[0, 0].item()
    times: List[float] = []
    while len(times) < _TIMES or sum(times) < seconds:
        began = time.perf_counter()
        flow.matmul(a, a)[0, 0].item()
        times.append(time.perf_counter() - began)
    return 2 * size**3 * (len(times) / sum(times) if seconds else 1 / min(times))
