"""``entry.py new-plugin``: what it writes works at once, and what it refuses costs one line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from jobs import ROOT, environment

from pipeloom.core.commands.cli import main
from pipeloom.plugins.commands.new_plugin import KINDS


@pytest.mark.fast
@pytest.mark.parametrize(
    "arguments, says",
    [
        (
            ["strategie", "zigzag"],
            "new-plugin makes no 'strategie' (did you mean 'strategy'?); it makes: strategy, model",
        ),
        (
            ["model", "My-Model"],
            "'My-Model' cannot name a plugin: begin with a small letter, and go on with letters, dig",
        ),
        (["model", "My-Model"], "underscores: 'my_model', for instance"),
        (["model", "class"], "'class' cannot name a plugin"),
        (["model", "../there"], "'../there' cannot name a plugin"),
        (["model", "7"], "single underscores\n"),
        (["model", "bert"], "'bert' is a built-in plugin: choose another name"),
        (["logger", "jsonl"], "'jsonl' is a built-in plugin"),
        (["logger", "mine", "--output", "full"], "full is there already: name a new folder with --output"),
        (["logger", "mine", "--output", "file/inside"], "cannot write file/inside: Not a directory"),
    ],
)
def test_refusals_are_one_line(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "file").write_text("mine")
    assert main(["new-plugin", *arguments]) in (1, 2)
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


@pytest.mark.fast
def test_the_package_has_what_a_repository_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "task", "tag_words"]) == 0
    folder = tmp_path / "pipeloom-tag-words"
    assert "pip install -e pipeloom-tag-words" in capsys.readouterr().out
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "pyproject.toml",
        "README.md",
        ".github/workflows/test.yml",
        "pipeloom_tag_words.py",
        "test_tag_words.py",
    }
    assert 'tag_words = "pipeloom_tag_words"' in (folder / "pyproject.toml").read_text()
    assert "${{ matrix.python }}" in (folder / ".github" / "workflows" / "test.yml").read_text()
    assert "--plugins inter_first,bert,tag_words" in (folder / "README.md").read_text()


def install_on_path(package, site):
    """As pip would put it there: the module, and the metadata with its entry point."""
    name = package.name.replace("-", "_")
    (site / f"{name}.py").write_bytes((package / f"{name}.py").read_bytes())
    lines = (package / "pyproject.toml").read_text().partition("[project.entry-points.pipeloom]\n")[2].splitlines()
    metadata = site / f"{name}-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.name}\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[pipeloom]\n" + lines[0].replace('"', "") + "\n")


def test_the_tests_of_every_kind_pass_at_once(tmp_path):
    """Those that need no engine; what is installed and trained is in tests/runs/test_guest_package.py."""
    site = tmp_path / "site"
    site.mkdir()
    for kind in KINDS:
        package = tmp_path / f"pipeloom-own-{kind}"
        assert main(["new-plugin", kind, f"own_{kind}", "--output", str(package)]) == 0
        install_on_path(package, site)
        (package / f"pipeloom_own_{kind}.py").unlink()  # the installed one is tested
    pytest_here = [sys.executable, "-m", "pytest", "-p", "pipeloom.testing.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest_here, "-q", "-m", "not pipeloom_engine", *map(str, sorted(tmp_path.glob("pipeloom-own-*")))],
        cwd=tmp_path,
        env=environment(PYTHONPATH=os.pathsep.join(map(str, (site, ROOT)))),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout
    assert "failed" not in done.stdout and "skipped" not in done.stdout, done.stdout
