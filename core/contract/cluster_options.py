"""What a batch system says of the cluster of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping


@dataclass(frozen=True)
class ClusterOptions:
    """State ``values`` of options by name, which ``source`` (``"Slurm"``) has set in the environment of a launcher."""

    source: str
    values: Mapping[str, Any]
