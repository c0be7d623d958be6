"""A plugin that makes the engine write its memory plan, and notes how large each rank's process is.

``PIPELOOM_LAB_FOLDER``: where ``rss_<rank>`` goes, kB at the end of the run. The plan goes to ``GLOG_log_dir``.
"""

import os
import re
from pathlib import Path

import pipeloom


@pipeloom.hookimpl
def pipeloom_on_run_start(run):
    import oneflow

    session = oneflow.framework.session_context.GetDefaultSession()
    resource = session.resource
    resource.enable_debug_mode = True
    session.update_resource_eagerly(resource)


@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    status = Path("/proc/self/status").read_text()
    Path(os.environ["PIPELOOM_LAB_FOLDER"], f"rss_{run.rank}").write_text(re.search(r"VmRSS:\s+(\d+)", status).group(1))
