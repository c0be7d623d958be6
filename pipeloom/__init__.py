"""pipeloom: a plugin-based trainer for hybrid-parallel transformers on OneFlow.

The sources of ``pipeloom.core`` and ``pipeloom.plugins`` stand in ``core/`` and ``plugins/`` at the
root of the checkout. ``setup.py`` maps them into the installed package; from a bare checkout this
module makes them importable by adding that root to the package's path.
"""
from pathlib import Path

__version__ = "0.1.0"

try:
    from pluggy import HookimplMarker as _Marker
except ModuleNotFoundError:    # then the command line says what is missing (pipeloom/__main__.py)
    pass
else:
    #: Marks a function as a pipeloom hook: ``@pipeloom.hookimpl def pipeloom_place(...)``.
    hookimpl = _Marker("pipeloom")

_root = Path(__file__).resolve().parent.parent
if (_root / "entry.py").is_file() and (_root / "core" / "hookspecs.py").is_file():
    __path__.append(str(_root))
