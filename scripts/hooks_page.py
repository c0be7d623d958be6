"""Write docs/hooks.md, the page of all hooks, from the contract itself.

    python scripts/hooks_page.py          print the page
    python scripts/hooks_page.py --write  put it into docs/hooks.md; what stands below its last marker is kept

``tests/project/test_hooks_page.py`` holds the page to the contract.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path
from typing import Callable, Dict

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeloom.core.contract import hookspecs  # noqa: E402  (the checkout is on the path now)

PAGE = ROOT / "docs" / "hooks.md"
#: Below this line the page is written by hand: the changes of the contract.
MARKER = "<!-- written by scripts/hooks_page.py up to here -->"


def hooks() -> Dict[str, Callable]:
    """Return the hooks of the contract by name, in their order there."""
    found = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("pipeloom_") and callable(hook)}
    return dict(sorted(found.items(), key=lambda item: item[1].__code__.co_firstlineno))


def page() -> str:
    """Return what the contract says of itself and of each hook, as Markdown."""
    lines = [
        "# Hooks",
        "",
        _markdown(inspect.getdoc(hookspecs)),
        "",
        f"This is version {hookspecs.CONTRACT_VERSION} of the contract.",
        "",
    ]
    lines += [f"- [`{name}`](#{name})" for name in hooks()]
    for name, hook in hooks().items():
        kind = f"One answer: {hookspecs.ONE_ANSWER[name]}." if name in hookspecs.ONE_ANSWER else "All plugins answer."
        text = re.sub(r"^One answer(, no default)?: ", "", _markdown(inspect.getdoc(hook)))
        lines += ["", f"## {name}", "", "```python", _signature(name, hook), "```", "", f"*{kind}* {text}"]
    return "\n".join([*lines, "", MARKER, ""])


def _signature(name: str, hook: Callable) -> str:
    return f"@pipeloom.hookimpl\ndef {name}{inspect.signature(hook)}: ..."


def _markdown(text: str) -> str:
    """``text`` of a docstring: double backticks are single ones in Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/hooks.md")
    if not parser.parse_args().write:
        print(page())
        return
    kept = PAGE.read_text(encoding="utf-8").partition(MARKER + "\n")[2] if PAGE.exists() else ""
    PAGE.write_text(page() + kept, encoding="utf-8")


if __name__ == "__main__":
    main()
