"""Write the part of docs/plugins.md that is about hooks: the contract itself, with an example of each hook.

    python scripts/hooks_page.py          print that part
    python scripts/hooks_page.py --write  put it into docs/plugins.md; what stands around it is written by hand

The example of ``pipeloom_place`` is examples/hooks/place.py, and so on; ``tests/project/test_hooks_page.py`` runs them,
and holds the page to the contract.
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

PAGE = ROOT / "docs" / "plugins.md"
EXAMPLES = ROOT / "examples" / "hooks"
#: What scripts/hooks_page.py writes stands between these lines.
BEGIN, END = "<!-- hooks: written by scripts/hooks_page.py -->", "<!-- end of hooks -->"


def hooks() -> Dict[str, Callable]:
    """Return the hooks of the contract by name, in their order there."""
    found = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("pipeloom_") and callable(hook)}
    return dict(sorted(found.items(), key=lambda item: item[1].__code__.co_firstlineno))


def example_of(name: str) -> Path:
    """Return the file of the example of the hook ``name``."""
    return EXAMPLES / f"{name[len('pipeloom_') :]}.py"


def page() -> str:
    """Return what the contract says of itself and of each hook, as Markdown, with examples."""
    lines = [
        _markdown(inspect.getdoc(hookspecs)),
        "",
        f"This is version {hookspecs.CONTRACT_VERSION} of the contract.",
        "",
    ]
    lines += [f"- [`{name}`](#{name})" for name in hooks()]
    for name, hook in hooks().items():
        kind = f"One answer: {hookspecs.ONE_ANSWER[name]}." if name in hookspecs.ONE_ANSWER else "All plugins answer."
        text = re.sub(r"^One answer(, no default)?: ", "", _markdown(inspect.getdoc(hook)))
        lines += ["", f"### {name}", "", "```python", _signature(name, hook), "```", "", f"*{kind}* {text}", ""]
        lines += _example(example_of(name))
    return "\n".join([*lines, ""])


def _example(path: Path) -> list:
    if not path.exists():
        return [f"(no example: {path.relative_to(ROOT)} is missing)"]
    docstring, _, code = path.read_text(encoding="utf-8").partition('"""\n')
    says = " ".join(docstring.strip('"').split())
    link = f"../{path.relative_to(ROOT).as_posix()}"
    return [f"[{path.relative_to(ROOT)}]({link}): {_markdown(says)}", "", "```python", code.strip(), "```"]


def rewritten(text: str) -> str:
    """Return the text of the page with the part about hooks as the contract has it now."""
    head, begin, rest = text.partition(BEGIN + "\n")
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no lines {BEGIN!r} and {END!r}")
    return f"{head}{begin}\n{page()}\n{end}{tail}"


def _signature(name: str, hook: Callable) -> str:
    return f"@pipeloom.hookimpl\ndef {name}{inspect.signature(hook)}: ..."


def _markdown(text: str) -> str:
    """``text`` of a docstring: double backticks are single ones in Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/plugins.md")
    if not parser.parse_args().write:
        print(page())
        return
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
