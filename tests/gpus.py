"""Machines with GPUs, for tests on one that has none."""

from __future__ import annotations

from pipeloom.core.base import devices
from pipeloom.core.base.devices import Gpu, Gpus

P100, V100, A100 = ("Tesla P100-PCIE-16GB", (6, 0)), ("Tesla V100-SXM2-32GB", (7, 0)), ("NVIDIA A100-SXM4-80GB", (8, 0))
M40, H100 = ("Tesla M40 24GB", (5, 2)), ("NVIDIA H100 80GB HBM3", (9, 0))


def gpus(*kinds, fault=""):
    """These, as the driver lists them without CUDA_VISIBLE_DEVICES."""
    found = [Gpu(name, capability, 16 << 30, str(number)) for number, (name, capability) in enumerate(kinds)]
    return Gpus(tuple(found), fault)


def machine_with(monkeypatch, *kinds, fault=""):
    """From now on this machine has these GPUs."""
    monkeypatch.setattr(devices, "find_gpus", lambda: gpus(*kinds, fault=fault))
