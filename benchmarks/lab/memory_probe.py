"""A plugin that makes the engine write its memory plan, and notes how large each rank's process is and was.

``PIPELOOM_LAB_FOLDER``: where ``rss_<rank>`` and ``peak_<rank>`` go, kB at the end of the run and the most of it. The
plan goes to ``GLOG_log_dir``.
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
    for name, line in (("rss", "VmRSS"), ("peak", "VmHWM")):
        file = Path(os.environ["PIPELOOM_LAB_FOLDER"], f"{name}_{run.rank}")
        file.write_text(re.search(rf"{line}:\s+(\d+)", status).group(1))
