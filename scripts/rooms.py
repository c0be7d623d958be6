"""Read which room of the code imports which, and draw it.

    python scripts/rooms.py            print the picture of rooms and arrows, and the line counts
    python scripts/rooms.py --write    put both into docs/architecture.md, between its markers
    python scripts/rooms.py --imports  print every import between rooms, one a line

Imports are read from the code itself (AST): those inside functions, under ``TYPE_CHECKING``, of
``importlib.import_module("...")``, names of modules in plain strings, as tables of commands have them, and the imports
of programs in strings, as ``python -c`` gets them.
``tests/project/test_imports.py`` holds the rules by the same functions.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"

#: The rooms of core; each imports only those before it.
ROOMS = (
    "base",
    "contract",
    "config",
    "host",
    "data",
    "planning",
    "checkpoint",
    "launch",
    "training",
    "commands",
)
#: What plugins of every kind may import.
LIBRARIES = "libraries"
#: The only folder that imports the engine.
ENGINE_ROOM = "plugins/executors/oneflow/"
#: An import in the text of a program.
_PROGRAM = re.compile(r"^\s*(?:from|import) +((?:pipeloom|oneflow)[\w.]*)(?: +import\b| *$| *[;,]| +as\b)", re.M)
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Import(NamedTuple):
    """An import in the file ``path`` (relative to the root of the checkout) of the module ``target``."""

    path: str
    line: int
    target: str


def modules(root: Path = ROOT, folders: Sequence[str] = ("core", "plugins")) -> Dict[str, Path]:
    """Return the file of each module of ``core/`` and ``plugins/`` by its dotted name."""
    found = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(("pipeloom",) + (parts[:-1] if parts[-1] == "__init__" else parts))] = path
    return found


def imports(root: Path = ROOT) -> List[Import]:
    """Return all imports of ``core/`` and ``plugins/``, standard library and installed packages included."""
    known = modules(root)
    found = []
    for name, path in known.items():
        source = path.read_text(encoding="utf-8")
        for line, target in sorted(set(read_imports(source, name, path.name == "__init__.py", set(known)))):
            found.append(Import(path.relative_to(root).as_posix(), line, target))
    return found


def read_imports(source: str, module: str, is_package: bool, known: Set[str]) -> Iterator[Tuple[int, str]]:
    """Yield ``(line, dotted name)`` of each import in ``source``, the text of ``module``.

    ``from package import name`` is an import of ``package.name`` where that is one of the modules ``known``,
    else of ``package``. A string that is the name of a known module below ``pipeloom.`` counts as an import of
    it, wherever it stands (``"pipeloom.core.a:b"`` too).
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            package = node.module or ""
            if node.level:  # relative: a package counts as a level of its own
                parents = (module.split(".") + ["__init__"] * is_package)[: -node.level]
                package = ".".join(parents + [package] * bool(package))
            for alias in node.names:
                whole = f"{package}.{alias.name}"
                yield node.lineno, whole if whole in known else package
        elif isinstance(node, ast.Call) and _imports_by_name(node.func) and node.args:
            name = _text(node.args[0])
            if name not in known:  # those that are known count as strings
                yield node.lineno, name
        elif isinstance(node, ast.Constant):
            name = _text(node).partition(":")[0]
            if name in known:
                yield node.lineno, name
            for name in _PROGRAM.findall(_text(node)):
                yield node.lineno, name


def _imports_by_name(function: ast.expr) -> bool:
    """Whether a call of ``function`` imports the module that its first argument names."""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__", "find_spec", "run_module")


def _text(node: ast.expr) -> str:
    """Return a constant text, or nothing."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def room_of(name: str) -> Optional[str]:
    """Return the room of a module or file: ``core/base``, ``plugins/models``, ``plugins`` (its table), or None."""
    parts = name[:-3].split("/") if name.endswith(".py") else name.split(".")
    parts = [p for p in parts if p not in ("pipeloom", "__init__")]
    return "/".join(parts[:2]) if parts and parts[0] in ("core", "plugins") else None


def fault(found: Import) -> Optional[str]:
    """Return the rule that an import breaks, or None."""
    if found.target.split(".")[0] == "oneflow":
        return None if found.path.startswith(ENGINE_ROOM) else f"only {ENGINE_ROOM} imports oneflow"
    if found.target.startswith("pipeloom.testing"):
        return "core and plugins import nothing of pipeloom.testing"
    here, there = room_of(found.path), room_of(found.target)
    if here is None or there is None or here == there:
        return None
    if there.startswith("plugins"):
        if here.startswith("core"):
            return "core imports no plugin"
        if here == f"plugins/{LIBRARIES}":
            return "libraries import no plugin"
        free = here == "plugins" or there == f"plugins/{LIBRARIES}"  # the table names them all
        return None if free else "plugins of one kind import none of another"
    if here.startswith("plugins") or there == "core":
        return None
    if here == "core":
        return "the package core imports no room"
    below = ROOMS[: ROOMS.index(here[5:])]
    return None if there[5:] in below else f"{here} imports only {', '.join(below) or 'no room'}"


def picture(found: List[Import]) -> str:
    """Return the rooms, highest first, each with those that it imports; ``!`` marks an arrow that breaks a rule."""
    arrows: Dict[str, Dict[str, str]] = {}
    for each in found:
        here, there = room_of(each.path), room_of(each.target)
        if here and there and here != there:
            marks = arrows.setdefault(here, {})
            marks[there] = "!" if fault(each) else marks.get(there, "")
    kinds = sorted(room for room in arrows if room.startswith("plugins") and room != f"plugins/{LIBRARIES}")
    order = kinds + [f"plugins/{LIBRARIES}"] + [f"core/{room}" for room in reversed(ROOMS)]
    width = max(map(len, order))
    lines = []
    for here in order:
        marks = arrows.get(here, {})
        names = [marks[room] + room.replace("core/", "") for room in order if room in marks]
        lines.append(f"{here:<{width}} -> {', '.join(names) or 'nothing'}")
    return "\n".join(lines)


def count_lines(root: Path = ROOT) -> Dict[str, Tuple[int, int, int]]:
    """Return ``(files, lines, lines of code)`` of each room of core; comments, docstrings, blank lines are no code."""
    counts: Dict[str, Tuple[int, int, int]] = {}
    for path in modules(root, ["core"]).values():
        room = room_of(path.relative_to(root).as_posix()) or ""
        source = path.read_text(encoding="utf-8")
        files, lines, code = counts.get(room, (0, 0, 0))
        counts[room] = (files + 1, lines + source.count("\n"), code + len(code_lines(source)))
    return counts


def code_lines(source: str) -> Set[int]:
    """Return the numbers of the lines that hold code."""
    no_code = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    numbers: Set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in no_code:
            numbers.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node):
            text = node.body[0]
            numbers.difference_update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return numbers


def counts_table(root: Path = ROOT) -> str:
    """Return the line counts of core as a Markdown table."""
    counts = count_lines(root)
    rows = [(room, counts[f"core/{room}"]) for room in ROOMS if f"core/{room}" in counts]
    total = tuple(sum(row[1][i] for row in rows) for i in range(3))
    lines = ["| room | files | lines | lines of code |", "| --- | --- | --- | --- |"]
    lines += [f"| {room} | {files} | {all_} | {code} |" for room, (files, all_, code) in rows]
    return "\n".join(lines + ["| **core** | {} | {} | {} |".format(*total)])


def rewritten(page: str, name: str, text: str) -> str:
    """Return ``page`` with what stands between ``<!-- name -->`` and ``<!-- end of name -->`` replaced by ``text``."""
    head, begin, rest = page.partition(f"<!-- {name} -->\n")
    _, end, tail = rest.partition(f"<!-- end of {name} -->")
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no markers for {name!r}")
    return f"{head}{begin}{text}\n{end}{tail}"


def pictured(page: str) -> str:
    """Return the page with the picture and the line counts of the code as it is now."""
    page = rewritten(page, "picture", f"```text\n{picture(imports())}\n```")
    return rewritten(page, "counts", counts_table())


def main() -> None:
    """Print the picture and the counts, or write them into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--imports", action="store_true", help="every import between rooms")
    arguments = parser.parse_args()
    found = imports()
    if arguments.imports:
        for each in found:
            if room_of(each.target) and room_of(each.target) != room_of(each.path):
                print(f"{each.path}:{each.line}: {each.target}" + (f"  <- {fault(each)}" if fault(each) else ""))
    elif arguments.write:
        PAGE.write_text(pictured(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(picture(found), counts_table(), sep="\n\n")


if __name__ == "__main__":
    main()
