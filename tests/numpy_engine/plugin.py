"""The numpy engine as a plugin: ``--plugins ...,./tests/numpy_engine/plugin.py --nnodes 1 --nproc_per_node 1``."""

from __future__ import annotations

import sys
from pathlib import Path

import pipeloom

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from numpy_engine.engine import NumpyEngine


@pipeloom.hookimpl
def pipeloom_executor(config):
    return NumpyEngine()


@pipeloom.hookimpl
def pipeloom_on_run_end(run, error):
    run.say(f"oneflow was {'' if 'oneflow' in sys.modules else 'not '}imported")
