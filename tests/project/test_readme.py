"""README and the pages of jobs: one page, links that lead somewhere, commands whose names and options there are."""

from __future__ import annotations

import re
import shlex
from functools import lru_cache
from pathlib import Path

import pytest

from pipeloom.core.commands.cli import main
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.plugins import COMMANDS

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
JOBS = [ROOT / "README.md", *sorted((ROOT / "docs" / "jobs").glob("*.md"))]
#: Options that the command line itself takes, beside those of plugins.
#: What predict takes is said by the task of its checkpoint.
OF_TASKS = {"predict": {"question", "context", "text"}}
GENERAL = {"plugins", "strategy", "config", "set", "help"}


def test_the_readme_is_one_page():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 130
    text = "\n".join(lines)
    for page in JOBS[1:]:
        assert f"docs/jobs/{page.name}" in text, f"README does not lead to {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name}: {target}"


@lru_cache(maxsize=None)
def anchors(page):
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "")).strip().lower().replace(" ", "-") for head in heads}


def commands():
    """Yield ``(page, words)`` of each command of ``entry.py`` on the pages of jobs."""
    for page in JOBS:
        text = re.sub(r"\\\n\s*", " ", page.read_text())
        for line in re.findall(r"^\s*python entry\.py (.*)$", text, re.M):
            if "..." not in line.partition("#")[0]:
                yield page.name, shlex.split(line, comments=True)


@lru_cache(maxsize=None)
def options_of(plugins):
    manager = PluginManager()
    manager.load([name for name in plugins.split(",") if name and not name.endswith(".py")])
    found = set(GENERAL)
    for option in manager.options():
        found |= {option.name, *option.aliases}
    return found


def own_options(command, kind, capsys):
    """The options that ``--help`` of a command names."""
    with pytest.raises(SystemExit) if command == "prepare" else pytest.MonkeyPatch.context():
        main([command, *([kind] if command == "prepare" else []), "--help"])
    return {name.replace("-", "_") for name in re.findall(r"--([a-z][a-z0-9_-]*)", capsys.readouterr().out)}


@pytest.mark.parametrize(
    "page, words", list(commands()), ids=[f"{page}:{' '.join(words)[:60]}" for page, words in commands()]
)
def test_the_commands_of_the_pages_exist(page, words, capsys):
    command, rest = (words[0], words[1:]) if not words[0].startswith("-") else ("train", words)
    assert command == "train" or command in COMMANDS, f"{page}: no command {command}"
    named = {word[2:].partition("=")[0].replace("-", "_") for word in rest if word.startswith("--")}
    plugins = rest[rest.index("--plugins") + 1] if "--plugins" in rest else "inter_first,bert,wiki_ofrecord"
    known = options_of(plugins)
    if command != "train":
        try:
            own = own_options(command, rest[0] if rest else "", capsys)
        except SystemExit:
            own = {name.replace("-", "_") for name in re.findall(r"--([a-z][a-z0-9_-]*)", capsys.readouterr().out)}
        known = known | own
    known = known | OF_TASKS.get(command, set())
    assert named <= known, f"{page}: {sorted(named - known)} of '{' '.join(words)}'"
