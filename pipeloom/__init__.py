"""pipeloom: a plugin-based trainer for hybrid-parallel transformers on OneFlow.

The sources of ``pipeloom.core`` and ``pipeloom.plugins`` stand in ``core/`` and ``plugins/`` at the
root of the checkout. ``setup.py`` maps them into the installed package; from a bare checkout this
module makes them importable by adding that root to the package's path.
"""

import os

__version__ = "0.1.0"

try:
    from pluggy import HookimplMarker as _Marker
except ImportError:  # then the command line says what is missing (pipeloom/__main__.py)
    pass
else:
    #: Marks a function as a pipeloom hook: ``@pipeloom.hookimpl def pipeloom_place(...)``.
    hookimpl = _Marker("pipeloom")

# Any Python can read this far, to be refused by pipeloom/__main__.py.
_root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if all(
    os.path.isfile(os.path.join(_root, name)) for name in ("entry.py", os.path.join("core", "contract", "hookspecs.py"))
):
    __path__.append(_root)
