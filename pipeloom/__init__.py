"""pipeloom: a plugin-based trainer for hybrid-parallel transformers on OneFlow.

The sources of ``pipeloom.core`` and ``pipeloom.plugins`` stand in ``core/`` and ``plugins/`` at the
root of the checkout, to which ``pipeloom/core`` and ``pipeloom/plugins`` are links: so a bare checkout
runs, and editors and type checkers follow the names. ``setup.py`` maps them into the installed package.
"""

__version__ = "0.1.0"

try:
    from pluggy import HookimplMarker as _Marker
except ImportError:  # then the command line says what is missing (pipeloom/__main__.py)
    pass
else:
    #: Marks a function as a pipeloom hook: ``@pipeloom.hookimpl def pipeloom_place(...)``.
    hookimpl = _Marker("pipeloom")
