"""Loading plugins by name, and what a plugin that breaks the contract is told."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeloom.core.base.errors import UsageError
from pipeloom.core.commands.cli import main, parse
from pipeloom.core.config.config import resolve
from pipeloom.core.contract import hookspecs
from pipeloom.core.host import plugin_manager
from pipeloom.core.host.plugin_manager import PluginManager, hooks_of, installed_plugins
from pipeloom.plugins import ALWAYS, BUILTIN
from pipeloom.plugins.commands.plugin_list.listing import describe_plugins

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[2]
CORE = Path(hookspecs.__file__).resolve().parent
HOOKS = {name: value for name, value in vars(hookspecs).items() if name.startswith("pipeloom_")}

PLACE = "import pipeloom\n@pipeloom.hookimpl\ndef pipeloom_place(cluster, mesh, config):\n    return 'placed by {}'\n"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on ``sys.path``; ``site.module`` writes a module there, ``site.package`` installs a package."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    class Site:
        folder = tmp_path

        def module(self, name, text):
            (tmp_path / f"{name}.py").write_text(text)
            importlib.invalidate_caches()
            return name

        def package(self, package, version="1.0", **entries):
            info = tmp_path / f"{package.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
            (info / "entry_points.txt").write_text(
                "[pipeloom]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
            )
            importlib.invalidate_caches()

    yield Site()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def load(*names):
    manager = PluginManager()
    manager.load(names)
    return manager


def refused(*names):
    """What the ``UsageError`` of loading ``names`` says."""
    with pytest.raises(UsageError) as raised:
        load(*names)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def placed(manager):
    """What the strategy would answer, unchecked."""
    strategy = manager.implementations("pipeloom_place")[-1]
    return strategy.plugin.pipeloom_place(*(None for _ in strategy.argnames))


# --- where plugins come from


@pytest.mark.parametrize("table", [BUILTIN, ALWAYS])
def test_every_plugin_in_the_tables_loads_and_does_something(table):
    for name, module in table.items():
        plugin = importlib.import_module(module)
        assert hooks_of(plugin) and set(hooks_of(plugin)) <= set(HOOKS), name
        assert (plugin.__doc__ or "").strip(), name


def test_each_built_in_loads_alone():
    for name in BUILTIN:
        manager = load(name)
        assert manager.names == (name,)
        manager.options()


def test_a_hook_with_a_default_is_answered_by_it():
    manager = load()
    for name in ("pipeloom_partition", "pipeloom_choose_layout", "pipeloom_build_optimizer", "pipeloom_lr_schedule"):
        assert manager.implementations(name), name
        manager.require(name)


def test_a_selected_plugin_answers_before_the_default(site):
    site.module(
        "mine",
        "import pipeloom\n@pipeloom.hookimpl\ndef pipeloom_partition(blocks, num_stages):\n    return [len(blocks)]\n",
    )
    manager = PluginManager()
    manager.load(["./mine.py"])
    assert manager.hook.pipeloom_partition(blocks=[1, 2, 3], num_stages=1, config=None, memory=None) == (3,)


def test_an_unknown_name_gets_a_suggestion_and_the_list(site):
    site.package("pipeloom-zigzag", zigzag="zigzag")
    known = ", ".join([*BUILTIN, *installed_plugins()])
    assert refused("interfirst") == f"no plugin 'interfirst' (did you mean 'inter_first'?); there are: {known}"
    assert refused("zigzak") == f"no plugin 'zigzak' (did you mean 'zigzag'?); there are: {known}"
    assert "zigzag" in known


def test_an_entry_point_is_loaded_by_its_name_and_by_nothing_else(site):
    site.module("zigzag_module", PLACE.format("zigzag"))
    site.module("broken_module", "raise RuntimeError('half\\ninstalled')\n")
    site.package("pipeloom-zigzag", "2.3", zigzag="zigzag_module")
    site.package("pipeloom-broken", broken="broken_module")
    assert "zigzag_module" not in sys.modules
    load("bert")
    assert "zigzag_module" not in sys.modules
    manager = load("zigzag", "bert")
    assert placed(manager) == "placed by zigzag" and manager.versions["zigzag"] == "pipeloom-zigzag 2.3"
    assert refused("broken") == (
        "plugin 'broken' (pipeloom-broken 1.0), its import: RuntimeError: half installed "
        "(broken_module.py, line 1); "
        "PIPELOOM_TRACEBACK=1 shows the traceback"
    )


def test_an_entry_point_may_be_an_object(site):
    site.module(
        "box",
        "import pipeloom\nclass Strategy:\n    @pipeloom.hookimpl\n    def pipeloom_place(self, mesh):\n"
        "        return 'placed by an object'\nstrategy = Strategy()\n",
    )
    site.package("pipeloom-box", box="box:strategy")
    assert placed(load("box")) == "placed by an object"


def test_the_listing_survives_a_broken_package(site):
    site.module("zigzag_module", '"""zigzag: back and forth."""\n' + PLACE.format("zigzag"))
    site.package("pipeloom-zigzag", "2.3", zigzag="zigzag_module", lost="no_such_module")
    lines = {line.split()[0]: " ".join(line.split()) for line in describe_plugins().splitlines()}
    assert lines["zigzag"] == "zigzag strategy back and forth. [pipeloom-zigzag 2.3]"
    assert lines["lost"] == (
        "lost unusable: plugin 'lost' (pipeloom-zigzag 2.3), its import: ModuleNotFoundError: No "
        "module named "
        "'no_such_module' [pipeloom-zigzag 2.3]"
    )


def test_an_entry_point_with_the_name_of_a_built_in_is_refused(site):
    site.module("my_bert", PLACE.format("my_bert"))
    site.package("pipeloom-bert", "0.9", bert="my_bert")
    assert refused("bert") == (
        "plugin 'bert': pipeloom-bert 0.9 offers a plugin of the name of a built-in one; "
        "uninstall it or load it by its module: my_bert"
    )
    assert load("inter_first").names == ("inter_first",)


def test_two_packages_with_one_name_are_refused_when_selected(site):
    site.module("one", PLACE.format("one"))
    site.module("two", PLACE.format("two"))
    site.package("pipeloom-one", "1.0", zigzag="one")
    site.package("pipeloom-two", "2.0", zigzag="two")
    said = refused("zigzag")
    assert re.fullmatch(
        r"plugin 'zigzag' is offered by two packages: (pipeloom-one 1.0 and pipeloom-two 2.0|"
        r"pipeloom-two 2.0 and pipeloom-one 1.0); load one by its module: (one|two)",
        said,
    )
    assert load("bert").names == ("bert",)


def test_one_package_found_twice_on_the_path_is_one(site):
    site.module("one", PLACE.format("one"))
    site.package("pipeloom-one", "1.0", zigzag="one")
    site.package("pipeloom-one", "1.1", zigzag="one")  # as a checkout and an installed copy are
    assert placed(load("zigzag")) == "placed by one"


def test_a_module_by_its_path(site):
    (site.folder / "shelf").mkdir()
    (site.folder / "shelf" / "__init__.py").write_text("")
    (site.folder / "shelf" / "zigzag.py").write_text(PLACE.format("a module"))
    importlib.invalidate_caches()
    assert placed(load("shelf.zigzag")) == "placed by a module"
    assert refused("shelf.zagzig") == (
        "plugin 'shelf.zagzig' (module), its import: ModuleNotFoundError: No module named 'shelf.zagzig'"
    )


def test_a_file_by_its_path(site):
    site.module("zigzag", PLACE.format("a file"))
    for name in ("./zigzag.py", "zigzag.py", str(site.folder / "zigzag.py")):
        assert placed(load(name)) == "placed by a file"
    assert refused("./zagzig.py") == "plugin './zagzig.py': there is no such file"
    assert refused(f"{site.folder}/") == f"plugin '{site.folder}/': there is no such file"
    site.module("torn", "def f(:\n")
    assert refused("./torn.py").startswith("plugin './torn.py' (file), its import: SyntaxError: invalid syntax")


# --- the contract


def test_a_mistyped_hook_gets_a_suggestion(site):
    site.module("typo", PLACE.replace("pipeloom_place", "pipeloom_plase"))
    assert refused("./typo.py") == (
        "plugin './typo.py' (file): there is no hook 'pipeloom_plase' (did you mean 'pipeloom_place'?)"
    )


def test_a_wrong_argument_of_a_hook_is_named(site):
    site.module("typo", PLACE.replace("cluster, mesh, config", "cluster, mash"))
    assert refused("./typo.py") == (
        "plugin './typo.py' (file): hook pipeloom_place has no argument 'mash' (did you "
        "mean 'mesh'?); "
        "it has: cluster, mesh, model, config"
    )


def test_a_plugin_given_twice_is_refused(site):
    site.module("zigzag", PLACE.format("zigzag"))
    assert refused("bert", "bert") == "plugin 'bert' is selected twice"
    assert refused("bert", BUILTIN["bert"]) == f"plugin '{BUILTIN['bert']}' is selected twice, under two names"


def test_two_answers_to_a_question_with_one_name_both(site):
    site.module("zigzag", PLACE.format("zigzag"))
    assert refused("bert", "intra_first", "./zigzag.py") == (
        "plugins 'intra_first' and './zigzag.py' are both a strategy (pipeloom_place): select only one of them"
    )


@pytest.mark.parametrize("hook, kind", sorted(hookspecs.ONE_ANSWER.items()))
def test_every_one_answer_hook_is_guarded(site, hook, kind):
    for name in ("one", "two"):
        site.module(name, f"import pipeloom\n@pipeloom.hookimpl\ndef {hook}():\n    return 1\n")
    load("./one.py")
    assert (
        refused("./one.py", "./two.py")
        == f"plugins './one.py' and './two.py' are both a {kind} ({hook}): select only one of them"
    )


@pytest.mark.parametrize("hook", ["pipeloom_place", "pipeloom_build_model", "pipeloom_open_dataset"])
def test_a_missing_answer_lists_who_could_give_it(site, hook, monkeypatch):
    able = sorted(name for name, module in BUILTIN.items() if hasattr(importlib.import_module(module), hook))
    monkeypatch.setattr(plugin_manager, "installed_plugins", dict)
    with pytest.raises(UsageError) as raised:
        load().require(hook)
    assert (
        able
        and str(raised.value)
        == f"no {hookspecs.ONE_ANSWER[hook]} is selected: add one to --plugins ({', '.join(able)})"
    )


def test_an_option_of_two_plugins_names_both(site):
    declare = (
        "import pipeloom\n@pipeloom.hookimpl\ndef pipeloom_add_options(options):\n    options.add('{}', int, 1, "
        "help='')\n"
    )
    site.module("one", declare.format("width"))
    site.module("two", declare.format("width"))
    site.module("three", declare.format("seed"))
    site.module("four", declare.format("gpu_num_per_node"))
    for names, says in [
        (
            ["./one.py", "./two.py"],
            "plugins './one.py' and './two.py' both declare the option 'width': select only one of them",
        ),
        (
            ["./three.py"],
            "plugin './three.py' (file), hook pipeloom_add_options: the option 'seed' is one of "
            "pipeloom's own: choose another name",
        ),
        (
            ["./four.py"],
            "plugin './four.py' (file), hook pipeloom_add_options: the option 'gpu_num_per_node' is one "
            "of pipeloom's own: "
            "choose another name",
        ),
    ]:
        with pytest.raises(UsageError) as raised:
            load(*names).options()
        assert str(raised.value) == says
    options = load("./one.py").options()
    assert options.get("width").owner == "./one.py" and options.get("width").section == "plugin_options"


def test_defaults_for_options_of_others(site):
    """What the user gave stays, an unknown name is passed over, and what is no such default names the plugin."""
    answer = "import pipeloom\n@pipeloom.hookimpl\ndef pipeloom_default_options(config):\n    return {}\n"
    for name, text in [
        ("one", "{'seed': 7, 'epochs': '2', 'width': 3}"),
        ("three", "{'seed': 8}"),
        ("five", "['seed']"),
        ("two", "{'seed': 7} if config.nnodes else None"),
        ("four", "{'seed': -1}"),
    ]:
        site.module(name, answer.format(text))

    def defaults(*names, **given):
        manager, options = load(*names), PluginManager().options()
        return manager.default_options(resolve(options, names, False, ("flags", given)), options)

    assert defaults("./one.py", "./two.py") == {"seed": 7, "epochs": 2.0}
    assert defaults("./one.py", nnodes=1, seed=9) == {"epochs": 2.0}
    for names, says in [
        (["./one.py", "./three.py"], "plugins './one.py' and './three.py' have different defaults for the option"),
        (["./four.py"], "plugin './four.py' (file), hook pipeloom_default_options: 'seed' must be at least 0, not -1"),
        (["./five.py"], "plugin './five.py' (file), hook pipeloom_default_options: it answers ['seed'], not a dict"),
    ]:
        with pytest.raises(UsageError) as raised:
            defaults(*names)
        assert str(raised.value).startswith(says)
    config, _ = parse(["--plugins", "./one.py"])
    assert (config.seed, config.epochs, config.given) == (7, 2.0, frozenset())
    assert parse(["--plugins", "./one.py", "--seed", "5"])[0].seed == 5


def test_help_shows_the_defaults_of_the_selected_plugins(capsys):
    with pytest.raises(SystemExit):
        parse(["--plugins", "inter_first,bert,squad", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "peak learning rate [5e-05]" in shown and "padding included [384]" in shown


# --- the book of the contract


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented(name):
    text = inspect.getdoc(HOOKS[name]) or ""
    assert len(text.split()) >= 12 and text.splitlines()[0].rstrip().endswith((".", ":", "``.")), text
    assert re.search(r"\b(Called|called|is over|about to be)\b|One answer", text), "it does not say when it is called"
    arguments = inspect.signature(HOOKS[name]).parameters
    assert arguments or name in (
        "pipeloom_commands",
        "pipeloom_prepare_kinds",
        "pipeloom_record_kinds",
    )  # called before there is a configuration
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in arguments.values())


def test_one_answer_hooks_are_those_that_stop_at_the_first():
    first = {name for name, hook in HOOKS.items() if hook.pipeloom_spec["firstresult"]}
    assert first == set(hookspecs.ONE_ANSWER)
    for name in first:
        text = inspect.getdoc(HOOKS[name])
        assert text.startswith("One answer"), name
        assert "Default" in text or "no default" in text, name
    assert len(set(hookspecs.ONE_ANSWER.values())) == len(hookspecs.ONE_ANSWER)


def test_a_one_answer_hook_without_a_default_is_given_by_a_built_in():
    defaults = {hook for module in ALWAYS.values() for hook in hooks_of(importlib.import_module(module))}
    given = {hook for module in BUILTIN.values() for hook in hooks_of(importlib.import_module(module))}
    assert set(hookspecs.ONE_ANSWER) <= defaults | given
    for hook in set(hookspecs.ONE_ANSWER) - defaults:
        assert "no default" in inspect.getdoc(HOOKS[hook])


def code_words(path):
    """What ``path`` says besides comments and docstrings: its names, and its texts (with whether they are prose)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value
        for field in ("id", "attr", "name", "asname", "arg", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value


#: Sentences that show a user what to type; a plugin in them is an example.
EXAMPLES = {"cli.py": ("for instance --plugins", "another way to select a strategy")}
#: A word that anything may be called, so that no text tells whether the plugin is meant.
WORDS = ("text", "auto")
#: A file format that a plugin is named after: these rooms know the format, and nothing of the plugin.
FORMATS = {"squad": ("data/squad/", "prepare/", "predict_command.py")}


def test_the_core_names_no_plugin():
    found = []
    for path in sorted(CORE.rglob("*.py")):
        where = path.relative_to(CORE).as_posix()
        banned = [name for name in BUILTIN if name not in WORDS and not where.startswith(FORMATS.get(name, ("none",)))]
        names = re.compile(r"(?<![A-Za-z0-9])(" + "|".join(banned) + r")(?![A-Za-z0-9])")
        found += [
            f"{where}: {text!r}"
            for text in code_words(path)
            if names.search(text) and not any(example in text for example in EXAMPLES.get(path.name, ()))
        ]
    assert found == []


# --- commands and kinds of 'prepare'

COMMANDS = """import pipeloom
from pipeloom.core.contract.commands import Command, PrepareKind

@pipeloom.hookimpl
def pipeloom_commands():
    return [Command("{name}", "says its arguments", lambda arguments: print("{name}", *arguments) or 7)]

def add(parser):
    parser.add_argument("--times", type=int, default=1)

@pipeloom.hookimpl
def pipeloom_prepare_kinds():
    return [PrepareKind("{name}_data", "some data", add, lambda options: print("data", options.times) or 0)]
"""


def test_an_installed_plugin_adds_a_command_and_a_kind_of_prepare(site, capsys):
    site.module("count_plugin", COMMANDS.format(name="count"))
    site.package("pipeloom-count", count="count_plugin")
    assert main(["count", "one", "--two"]) == 7 and capsys.readouterr().out == "count one --two\n"
    assert main(["prepare", "count_data", "--times", "3"]) == 0 and capsys.readouterr().out == "data 3\n"
    assert main(["prepare", "--help"]) == 0 and "  count_data   some data\n" in capsys.readouterr().out
    assert main(["coun"]) == 2 and "no command 'coun'" in capsys.readouterr().err


@pytest.mark.parametrize("plugin", ["count", "./count_plugin.py", "count_plugin.inner"])
def test_a_selected_plugin_adds_a_command_and_a_kind_of_prepare(site, capsys, monkeypatch, plugin):
    """Installed, a file and a module: the selection is not the command's."""
    site.module("count_plugin", COMMANDS.format(name="count"))
    monkeypatch.chdir(site.folder)
    if plugin == "count":
        site.package("pipeloom-count", count="count_plugin")
    if plugin == "count_plugin.inner":
        (site.folder / "count_plugin").mkdir()
        (site.folder / "count_plugin" / "__init__.py").touch()
        (site.folder / "count_plugin.py").rename(site.folder / "count_plugin" / "inner.py")
    assert main(["count", "one", "--plugins", plugin, "--two"]) == 7
    assert capsys.readouterr().out == "count one --two\n"
    assert main(["count", f"--plugins=bert,{plugin}", "--", "--plugins", "x"]) == 7
    assert capsys.readouterr().out == "count -- --plugins x\n"
    for command in (["--plugins", plugin, "count_data"], ["count_data", "--plugins", plugin]):
        assert main(["prepare", *command, "--times", "3"]) == 0 and capsys.readouterr().out == "data 3\n"
    assert main(["prepare", "--plugins", plugin, "--help"]) == 0
    assert capsys.readouterr().out.count("  count_data   some data\n") == 1


def test_an_installed_command_gets_a_selection_that_is_of_others(site, capsys):
    site.module("count_plugin", COMMANDS.format(name="count"))
    site.package("pipeloom-count", count="count_plugin")
    assert main(["count", "--plugins", "bert,none_of_this_name", "--plugins"]) == 7
    assert capsys.readouterr().out == "count --plugins bert,none_of_this_name --plugins\n"


@pytest.mark.parametrize("command", [["count"], ["prepare", "count_data"]])
def test_a_selected_plugin_that_cannot_be_loaded_is_named(site, capsys, command):
    assert main([*command, "--plugins", "./no_such_file.py"]) == 2
    error = capsys.readouterr().err
    assert "plugin './no_such_file.py': there is no such file" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "body, code, says",
    [
        ("1 / 0", 1, "plugin 'count' (pipeloom-count 1.0), its command 'count': ZeroDivisionError"),
        ("None", 1, "its command 'count': it returns None, not an exit code"),
        ("sys.exit(5)", 5, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('no fruit')", 1, "pipeloom: error: no fruit"),
        ("argparse.ArgumentParser().parse_args(['--help'])", 0, ""),
    ],
)
def test_what_a_command_does_wrong_is_its_plugins_fault(site, capsys, body, code, says):
    text = "import argparse, sys, pipeloom\nfrom pipeloom.core.contract.commands import Command\n"
    text += "@pipeloom.hookimpl\ndef pipeloom_commands():\n"
    site.module("count_plugin", f"{text}    return [Command('count', '', lambda arguments: {body})]\n")
    site.package("pipeloom-count", count="count_plugin")
    assert main(["count"]) == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == bool(says)


def test_a_command_whose_output_nobody_reads_is_no_fault(site):
    site.module("count_plugin", COMMANDS.format(name="count"))
    command = [sys.executable, str(ROOT / "entry.py"), "count", "--plugins", "./count_plugin.py", *["x" * 1000] * 100]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(command, cwd=site.folder, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert ended.returncode == 1 and ended.stderr == ""


def test_two_plugins_with_one_command_are_both_named(site, capsys):
    for plugin in ("first", "second"):
        site.module(f"{plugin}_plugin", COMMANDS.format(name="count"))
        site.package(f"pipeloom-{plugin}", **{plugin: f"{plugin}_plugin"})
    assert main(["count"]) == 2
    assert "the command 'count' is of two plugins, 'first' and 'second': name one with" in capsys.readouterr().err
    assert main(["count", "--plugins", "second"]) == 7
    assert main(["count", "--plugins", "first,second"]) == 2
    assert "'first' and 'second': select one" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer, says",
    [
        ("None", "pipeloom_commands: it answers None (is a 'return' missing?), not a list of Commands"),
        ("[Command('', '', print)]", "its Command '': 'name' must be a word"),
        ("[Command('count', '', 3)]", "its Command 'count': 'run' must be a function"),
    ],
)
def test_a_command_that_is_none_is_the_plugins_fault(site, capsys, answer, says):
    text = "import pipeloom\nfrom pipeloom.core.contract.commands import Command\n"
    site.module("count_plugin", text + f"@pipeloom.hookimpl\ndef pipeloom_commands():\n    return {answer}\n")
    site.package("pipeloom-count", count="count_plugin")
    assert main(["count"]) == 2
    error = capsys.readouterr().err
    assert says in error and "plugin 'count'" in error and error.count("\n") == 1
