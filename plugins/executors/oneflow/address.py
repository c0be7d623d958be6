"""The address by which OneFlow lets the other ranks know this one.

Its own setting for it, ``BootstrapConf.host``, has no variable.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any, Mapping

from pipeloom.core.base.variables import ADDRESS

_ENV_MODULE = "oneflow.framework.env_util"


def announce(environment: Mapping[str, str] = os.environ) -> None:
    """Let the engine, which is imported next, tell the other ranks the address in ``PIPELOOM_ADDRESS``, if there is
    one.

    The engine connects its ranks while it is imported, and between the reading of MASTER_ADDR and that there is no
    call into which an address could go; so the module that reads it is changed as it is loaded.
    """
    address = environment.get(ADDRESS)
    if address and int(environment.get("WORLD_SIZE", "1")) > 1:
        sys.meta_path.insert(0, _Announcer(address))


class _Announcer:
    """Finds one module, once, and adds the address to what it makes of the environment."""

    def __init__(self, address: str) -> None:
        self.address = address

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != _ENV_MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        address = self.address
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            complete = module.CompleteEnvProto

            def with_address(proto: Any) -> None:
                complete(proto)
                proto.ctrl_bootstrap_conf.host = address

            module.CompleteEnvProto = with_address

        loader.exec_module = exec_module
        return spec
