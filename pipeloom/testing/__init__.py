"""The conformance kit: hold a plugin to the contract, by numbers where the contract is one of numbers.

    from pipeloom.testing import conformance_tests

    test_it = conformance_tests("zigzag")

or, without a file, ``pytest --pipeloom zigzag``. docs/conformance.md says what is checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeloom.testing.check import Check, ConformanceError
    from pipeloom.testing.collecting import checks_of, conformance_tests
    from pipeloom.testing.subject import Subject

__all__ = ["Check", "ConformanceError", "Subject", "checks_of", "conformance_tests"]

_PLACES = {
    "Check": "check",
    "ConformanceError": "check",
    "Subject": "subject",
    "checks_of": "collecting",
    "conformance_tests": "collecting",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: pytest imports this package in every run where pipeloom is installed."""
    import importlib

    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
