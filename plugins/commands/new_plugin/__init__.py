"""``entry.py new-plugin KIND NAME``: a package of one plugin, with README, CI file and tests that pass at once."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template
from typing import Dict, Sequence

from pipeloom.core.base.errors import RunError, UsageError, did_you_mean
from pipeloom.core.base.files import is_vacant, whole_folder, write_file
from pipeloom.core.contract.arguments import Parser, normalize
from pipeloom.core.contract.commands import Command
from pipeloom.core.host.builtin import builtin
from pipeloom.core.host.discovery import installed_plugins

_TEMPLATES = Path(__file__).with_name("templates")
#: Kind -> the plugins that a run with such a one is shown with.
KINDS: Dict[str, str] = {
    "strategy": "$name,bert,wiki_ofrecord",
    "model": "inter_first,$name,wiki_ofrecord",
    "dataset": "inter_first,gpt2,$name",
    "task": "inter_first,bert,$name",
    "optimizer": "inter_first,bert,wiki_ofrecord,$name",
    "logger": "inter_first,bert,wiki_ofrecord,$name",
}
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def new_plugin(arguments: Sequence[str]) -> int:
    """Write the package; returns the exit code. Raises ``UsageError`` and ``RunError``."""
    parser = Parser(prog="entry.py new-plugin", description="A package of one plugin, to be filled with your own.")
    parser.add_argument("kind", metavar="KIND", help=f"{', '.join(KINDS)}")
    parser.add_argument("name", metavar="NAME", help="how --plugins will call it: small letters, digits, underscores")
    parser.add_argument("--output", metavar="DIR", help="the folder to make [pipeloom-NAME]")
    options = parser.parse_args([normalize(argument) for argument in arguments])
    if options.kind not in KINDS:
        raise UsageError(
            f"new-plugin makes no '{options.kind}'{did_you_mean(options.kind, KINDS)}; it makes: {', '.join(KINDS)}"
        )
    _check_name(options.name)
    package = f"pipeloom-{options.name.replace('_', '-')}"
    folder = Path(options.output or package).expanduser()
    if not is_vacant(folder):
        raise UsageError(f"{folder} is there already: name a new folder with --output")
    try:
        with whole_folder(folder) as scratch:
            for name, content in package_files(options.kind, options.name).items():
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
                write_file(scratch / name, content.encode())
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror or error}") from error
    print(
        f"{folder}: a package with the {options.kind} '{options.name}'; pip install -e {folder}, then pytest {folder}"
    )
    return 0


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        better = "_".join(re.findall(r"[a-z0-9]+", name.lower())).lstrip("0123456789_")
        hint = f": '{better}', for instance" if _NAME.fullmatch(better) and not keyword.iskeyword(better) else ""
        raise UsageError(
            f"'{name}' cannot name a plugin: begin with a small letter, and go on with letters, digits and single "
            f"underscores{hint}"
        )
    if name in builtin():
        raise UsageError(f"'{name}' is a built-in plugin: choose another name")
    if name in installed_plugins():
        raise UsageError(f"'{name}' is a plugin of {installed_plugins()[name][0].distribution}: choose another name")


def package_files(kind: str, name: str) -> Dict[str, str]:
    """Return the files of the package by their paths in it."""
    words = {
        "kind": kind,
        "name": name,
        "module": f"pipeloom_{name}",
        "package": f"pipeloom-{name.replace('_', '-')}",
        "class_name": name.title().replace("_", ""),
    }
    words["plugins"] = Template(KINDS[kind]).substitute(words)
    sources = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        ".github/workflows/test.yml": "test.yml.txt",
        f"{words['module']}.py": f"{kind}.py.txt",
        f"test_{name}.py": f"test_{kind}.py.txt",
    }
    return {
        path: Template((_TEMPLATES / source).read_text(encoding="utf-8")).substitute(words)
        for path, source in sources.items()
    }


COMMAND = Command("new-plugin", "write a package of one plugin", new_plugin)
