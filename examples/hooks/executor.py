"""The engine that pipeloom comes with, for jobs of at most eight ranks; a whole one is in tests/numpy_engine/."""

import pipeloom
from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.executors.oneflow import OneFlow


class SmallJobs(OneFlow):
    def check(self, cluster, config):
        super().check(cluster, config)
        if cluster.size > 8:
            raise UsageError(f"a job may have 8 ranks, this has {cluster.size}: lower --nnodes or --nproc_per_node")


@pipeloom.hookimpl
def pipeloom_executor(config):
    return SmallJobs()
