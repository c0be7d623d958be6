"""pipeloom: a plugin-based trainer for hybrid-parallel transformers on OneFlow.

The sources of ``pipeloom.core`` and ``pipeloom.plugins`` are in ``core/`` and ``plugins/`` at the root of the
checkout, to which ``pipeloom/core`` and ``pipeloom/plugins`` are links: so a bare checkout runs, and editors and type
checkers follow the names. ``setup.py`` maps them into the installed package.
"""

import os as _os

__version__ = "0.1.0"

# An archive of the sources may come without the links (an sdist does): then the folders beside this one are found.
_here = _os.path.dirname(_os.path.abspath(__file__))
if not _os.path.isdir(_os.path.join(_here, "core")):
    _root = _os.path.dirname(_here)
    if _os.path.isfile(_os.path.join(_root, "core", "contract", "hookspecs.py")):
        __path__.append(_root)

try:
    from pluggy import HookimplMarker as _Marker
except ImportError:  # then the command line says what is missing (pipeloom/__main__.py)
    pass
else:
    #: Marks a function as a pipeloom hook: ``@pipeloom.hookimpl def pipeloom_place(...)``.
    hookimpl = _Marker("pipeloom")

#: What is for notebooks and tests.
_PYTHON = ("Config", "load", "plan", "train")


def __getattr__(name):
    """Import what is in ``pipeloom/api.py`` where it is asked for: a bare import is cheap."""
    if name not in _PYTHON:
        raise AttributeError("module 'pipeloom' has no attribute %r" % name)
    from pipeloom import api

    return getattr(api, name)


def __dir__():
    return sorted(list(globals()) + list(_PYTHON))
