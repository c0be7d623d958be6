"""The experiments of the laboratory (``benchmarks/run.py``), each a module with ``PURPOSE``, ``run`` and ``render``.

``run(lab)`` measures and returns what can be written as JSON; ``render(data)`` makes Markdown of it.
"""

from __future__ import annotations

#: In the order of the page.
NAMES = ("step", "placement", "pipeline", "startup", "data", "checkpoint", "planner")
#: Those that are run when they are named, and not without: they need machines that most have not.
ASKED_FOR = ("seed_table",)
