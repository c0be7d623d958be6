"""What is said of a plugin that is none, declares what cannot be, fails, or answers with something else than it was
asked for."""

from __future__ import annotations

import json
import re
import signal
from types import SimpleNamespace

import pytest

from pipeloom.core.base.errors import PipeloomError, RunError, UsageError
from pipeloom.core.contract.topology import Cluster, Mesh
from pipeloom.core.host import calls
from pipeloom.core.host.calls import blaming
from pipeloom.core.host.discovery import Offer, installed_plugins, look_through, scan
from pipeloom.core.host.plugin_manager import PluginManager
from pipeloom.plugins.commands.plugin_list import listing

pytestmark = pytest.mark.fast

HOOK = "import pipeloom\n@pipeloom.hookimpl\ndef "
WHOSE = "plugin './mine.py' (file)"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """``mine(text)`` loads a plugin file with this text; returns the manager that has it selected."""
    monkeypatch.chdir(tmp_path)

    def load(text):
        (tmp_path / "mine.py").write_text(text, encoding="utf-8")
        manager = PluginManager()
        manager.load(["./mine.py"])
        return manager

    return load


def says(action, *arguments, **named):
    with pytest.raises(PipeloomError) as raised:
        action(*arguments, **named)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- what is no plugin


@pytest.mark.parametrize(
    "text, what",
    [
        (
            "import sys\nsys.exit(3)",
            ", its import: it calls sys.exit(3) (mine.py, line 2); PIPELOOM_TRACEBACK=1 shows the traceback",
        ),
        ("import os\nos._exit(0)", ", its import: it calls os._exit(0)"),
        ("raise KeyboardInterrupt", ", its import: it raises KeyboardInterrupt"),
        (
            "raise GeneratorExit",
            ", its import: GeneratorExit (mine.py, line 1); PIPELOOM_TRACEBACK=1 shows the traceback",
        ),
        (
            "def f(): f()\nf()",
            ", its import: RecursionError: maximum recursion depth exceeded (mine.py, line 1); "
            "PIPELOOM_TRACEBACK=1 shows the "
            "traceback",
        ),
        ("import no_such_module_here", ", its import: ModuleNotFoundError: No module named 'no_such_module_here'"),
        (
            "",
            ": it has no hooks: mark functions of the contract (pipeloom_place, ...) with @pipeloom.hookimpl; "
            "core/contract/hookspecs.py lists them",
        ),
        (
            "def pipeloom_place(cluster): pass",
            ": pipeloom_place is not marked as a hook, so nobody would call it: write '@pipeloom.hookimpl' above it",
        ),
        (
            "def pipeloom_plaze(cluster): pass",
            ": it has no hooks: there is no hook 'pipeloom_plaze' (did you mean 'pipeloom_place'?)",
        ),
        (HOOK + "place(cluster): pass", ": there is no hook 'place' (did you mean 'pipeloom_place'?)"),
        (
            HOOK + "pipeloom_on_run_end(run): pass\ndef pipeloom_place(cluster): pass",
            ": pipeloom_place is not marked as a hook, so nobody would call it: write '@pipeloom.hookimpl' above it",
        ),
        (
            "import pluggy\n@pluggy.HookimplMarker('pytest')\ndef pipeloom_place(cluster): pass",
            ": pipeloom_place is marked for 'pytest': write '@pipeloom.hookimpl' above it (pipeloom.hookimpl, not that "
            "of "
            "'pytest')",
        ),
        (
            "import pluggy\n@pluggy.HookspecMarker('pipeloom')\ndef pipeloom_place(cluster): pass",
            ": pipeloom_place is marked by hookspec, which is for the host: write '@pipeloom.hookimpl' above it",
        ),
        (
            "import pipeloom\nclass Zig:\n    @pipeloom.hookimpl\n    def pipeloom_place(self, mesh): pass",
            ": its hooks are in the class Zig, of which nobody makes an instance: write 'plugin = Zig()' below it",
        ),
        (
            "class Zig:\n    def pipeloom_place(self, mesh): pass",
            ": its hooks are in the class Zig, of which nobody makes an instance: write 'plugin = Zig()' below it, "
            "'@pipeloom.hookimpl' above each hook in it",
        ),
        (
            "import pipeloom\nclass Zig:\n    @pipeloom.hookimpl\n    def pipeloom_place(self, mesh): pass\nzig = "
            "Zig()",
            ": its hooks are in the object 'zig': call that 'plugin', or name it by an entry point (module:zig)",
        ),
        (
            HOOK
            + "pipeloom_on_run_end(run): pass\nclass Zig:\n    @pipeloom.hookimpl\n    def pipeloom_place(self, mesh): "
            "pass\nplugin = Zig()",
            ": has hooks as functions and in the object 'plugin', of which only the former would be called: keep one "
            "of the "
            "two",
        ),
        (
            HOOK + "pipeloom_place(clustr): pass",
            ": hook pipeloom_place has no argument 'clustr' (did you mean 'cluster'?); it has: cluster, mesh, model, "
            "config",
        ),
        (
            HOOK + "pipeloom_place(cluster, config=None): pass",
            ": hook pipeloom_place gives 'config' a default or takes it by its name alone, so it would never be "
            "passed: "
            "write plain 'config'",
        ),
        (
            HOOK + "pipeloom_place(**given): pass",
            ": hook pipeloom_place takes '**given', where nothing would come in: name what it wants of cluster, mesh, "
            "model, config",
        ),
        (
            HOOK.replace("def", "async def") + "pipeloom_on_step_end(run): pass",
            ": hook pipeloom_on_step_end is 'async', and nobody would await it: write a plain 'def'",
        ),
        (
            HOOK + "pipeloom_place(): yield 1",
            ": hook pipeloom_place has a 'yield', so nothing in it would run: return the answer instead",
        ),
        (
            HOOK.replace("hookimpl", "hookimpl(hookwrapper=True)") + "pipeloom_on_step_end(run): pass",
            ": hook pipeloom_on_step_end is marked as a wrapper of others and has no 'yield', where the others would "
            "be "
            "called",
        ),
    ],
)
def test_what_is_no_plugin_is_told_what_to_change(mine, text, what):
    assert says(mine, text + "\n") == WHOSE + what


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN, lambda number, frame: None])
def test_a_users_ctrl_c_is_not_the_plugins(mine, handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(UsageError, match="its import: it raises KeyboardInterrupt"):
            mine("raise KeyboardInterrupt\n")
        if handler is signal.default_int_handler:
            with pytest.raises(KeyboardInterrupt):
                mine("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(99): pass\n")
        hook = "import pipeloom\n@pipeloom.hookimpl\ndef pipeloom_partition(blocks):\n    raise KeyboardInterrupt\n"
        with pytest.raises(UsageError, match="hook pipeloom_partition: it raises KeyboardInterrupt"):
            mine(hook).hook.pipeloom_partition(blocks=[1, 2], num_stages=1, config=None, memory=None)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_object_plugin_of_a_module_is_one(mine):
    manager = mine(
        "import pipeloom\nclass Zig:\n    @pipeloom.hookimpl\n    def pipeloom_partition(self, blocks):\n  "
        "      return [len(blocks)]\n"
        "plugin = Zig()\n"
    )
    assert manager.hook.pipeloom_partition(blocks=[1, 2], num_stages=1, config=None, memory=None) == (2,)


def test_a_package_with_its_hooks_inside_is_told_where_they_are(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a_shelf").mkdir()
    (tmp_path / "a_shelf" / "__init__.py").write_text("")
    (tmp_path / "a_shelf" / "zig.py").write_text(HOOK + "pipeloom_place(): pass\n")
    (tmp_path / "a_shelf" / "inner").mkdir()
    (tmp_path / "a_shelf" / "inner" / "__init__.py").write_text("")
    assert says(PluginManager().load, ["a_shelf.inner"]).startswith(
        "plugin 'a_shelf.inner' (module): it has no hooks: mark functions"
    )
    (tmp_path / "a_shelf" / "__init__.py").write_text("from a_shelf import inner\n")
    with pytest.raises(
        calls.ContractError,
        match="name the module that has them \\(a_shelf.zig\\), or import them into a_shelf/__init__.py",
    ):
        from pipeloom.core.host.shape import plugin_in

        plugin_in(__import__("a_shelf"))


def test_one_that_asks_to_answer_last_answers_before_the_default(mine):
    manager = mine(
        HOOK.replace("hookimpl", "hookimpl(trylast=True)") + "pipeloom_partition(blocks): return [len(blocks)]\n"
    )
    assert manager.who_answers("pipeloom_partition") == "./mine.py"
    assert manager.hook.pipeloom_partition(blocks=[1, 2], num_stages=1, config=None, memory=None) == (2,)


# --- what it declares


@pytest.mark.parametrize(
    "declared, what",
    [
        *(
            (f"'{name}', int, 1, help=''", f"the option '{name}': --{name} is pipeloom's own flag: choose another name")
            for name in ("config", "help", "plugins", "set", "strategy", "version", "steps")
        ),
        *(
            (
                f"'{name}', int, 1, help=''",
                f"the option '{name}': config.{name} is something else already: choose another name",
            )
            for name in ("replace", "given", "to_dict", "transient")
        ),
        (
            "'my-width', int, 1, help=''",
            "the option 'my-width': a name is made of letters, digits and underscores, and "
            "begins with a letter, for instance "
            "'my_width'",
        ),
        (
            "'__x__', int, 1, help=''",
            "the option '__x__': a name is made of letters, digits and underscores, and begins "
            "with a letter, for instance 'x'",
        ),
        (
            "'1st', int, 1, help=''",
            "the option '1st': a name is made of letters, digits and underscores, and begins with a letter",
        ),
        (
            "7, int, 1, help=''",
            "the option 7: a name is made of letters, digits and underscores, and begins with a letter",
        ),
        (
            "'class', int, 1, help=''",
            "the option 'class': this is a word of Python's, so config.class could not be written: choose another name",
        ),
        (
            "'train', int, 1, help=''",
            "the option 'train': this is the name of a section of the YAML file: choose another name",
        ),
        ("'seed', int, 1, help=''", "the option 'seed' is one of pipeloom's own: choose another name"),
        ("'w', int, 'x', help=''", "the option 'w': its default 'x' is no int"),
        ("'w', int, True, help=''", "the option 'w': its default True is no int"),
        ("'w', int, cuda_default=1.5, help=''", "the option 'w': its cuda_default 1.5 is no int"),
        ("'w', int, 1, minimum=2, help=''", "the option 'w': its default: 'w' must be at least 2, not 1"),
        ("'w', str, 'c', choices=('a', 'b'), help=''", "the option 'w': its default: 'w' must be one of a, b, not 'c'"),
        ("'w', str, 'a', choices='ab', help=''", "the option 'w': choices must be a list of values, not 'ab'"),
        ("'w', int, choices=('a',), help=''", "the option 'w': its choice 'a' is no int"),
        (
            "'w', list, help=''",
            "the option 'w': its type must be int, float, bool, str, or IntList or IntLists of "
            "pipeloom.core.contract.options, not list",
        ),
        ("'w', int, help=None", "the option 'w': help must be text, not None"),
        ("'w', str, minimum=1, help=''", "the option 'w': minimum 1 must be a number, of an option that is one"),
        ("'w', int, minimum=3, maximum=2, help=''", "the option 'w': its minimum 3 is above its maximum 2"),
        ("'w', int, help='', aliases='v'", "the option 'w': aliases must be a list of names, not 'v'"),
        (
            "'w', int, help='', aliases=['config']",
            "the option 'w': the alias 'config': --config is pipeloom's own flag: choose another name",
        ),
        (
            "'w', int, help='', section='seed'",
            "the option 'w' cannot be in the section 'seed', which is the name of an option",
        ),
        ("'w', int, help='', resume='maybe'", "the option 'w': resume must be 'fixed', 'free' or 'fresh', not 'maybe'"),
        ("'w', int, help='')\n    options.add('w', int, help=''", "declares the option 'w' twice"),
    ],
)
def test_an_option_that_cannot_be_names_its_plugin(mine, declared, what):
    manager = mine(f"{HOOK}pipeloom_add_options(options):\n    options.add({declared})\n")
    assert says(manager.options) == f"{WHOSE}, hook pipeloom_add_options: {what}"


def test_an_option_that_can_be_is_of_its_type(mine):
    manager = mine(
        HOOK
        + "pipeloom_add_options(options): options.add('w', float, 1, help='100% of it', minimum=0, aliases=['v'])\n"
    )
    assert repr(manager.options().get("v").default) == "1.0"


def test_a_declaration_that_raises(mine):
    manager = mine(HOOK + "pipeloom_add_options(options): options.add('w', int)\n")
    said = says(manager.options)
    assert re.match(
        re.escape(WHOSE) + r", hook pipeloom_add_options: TypeError: .*'help' \(mine.py, line 3\); "
        r"PIPELOOM_TRACEBACK=1 shows",
        said,
    )


# --- what it answers

PLACE = {"cluster": Cluster(2, 2), "mesh": Mesh(2, 2), "model": None, "config": None}
LAYOUT = {"cluster": Cluster(2, 2), "model": None, "config": None, "memory": None}
SPLIT = {"blocks": [0, 1, 2], "num_stages": 2, "config": None, "memory": None}
RATE = {"config": SimpleNamespace(train_steps=10)}
DATA = {"config": None, "split": "train"}
MODEL = {"config": None, "task": None}
TOPOLOGY = "from pipeloom.core.contract.topology import Mesh; "


@pytest.mark.parametrize(
    "hook, given, body, what",
    [
        (
            "place",
            PLACE,
            "return [[0, 1], [2, 3]]",
            "it answers [[0, 1], [2, 3]], not a Placement: return "
            "Placement.of(cluster, stages) of "
            "pipeloom.core.contract.placement",
        ),
        (
            "place",
            PLACE,
            "pass",
            "it answers None (is a 'return' missing?), not a Placement: return Placement.of(cluster, "
            "stages) of pipeloom.core.contract.placement",
        ),
        (
            "place",
            PLACE,
            "raise ValueError('one\\ntwo')",
            "ValueError: one two (mine.py, line 3); PIPELOOM_TRACEBACK=1 shows the traceback",
        ),
        (
            "place",
            PLACE,
            "raise TypeError(1, None)",
            "TypeError: (1, None) (mine.py, line 3); PIPELOOM_TRACEBACK=1 shows the traceback",
        ),
        (
            "place",
            PLACE,
            "import sys; sys.exit('bye')",
            "it calls sys.exit(bye) (mine.py, line 3); PIPELOOM_TRACEBACK=1 shows the traceback",
        ),
        (
            "choose_layout",
            LAYOUT,
            "return 2, 2",
            "it answers (2, 2), not a Mesh: return Mesh(pipeline, data, tensor) of pipeloom.core.contract.topology",
        ),
        (
            "choose_layout",
            LAYOUT,
            TOPOLOGY + "return Mesh",
            "it answers the class Mesh itself (is '()' missing?), not a "
            "Mesh: return Mesh(pipeline, data, "
            "tensor) of pipeloom.core.contract.topology",
        ),
        (
            "choose_layout",
            LAYOUT,
            TOPOLOGY + "return Mesh(2.0, 2)",
            "it answers the sizes (2.0, 2, 1): each must be a whole number from 1 on",
        ),
        (
            "choose_layout",
            LAYOUT,
            TOPOLOGY + "return Mesh(2, 1)",
            "it answers what does not fit: the mesh pipeline 2 x "
            "data 1 x tensor 1 uses 2 devices, "
            "the cluster has 4 (2 logical nodes x 2 CPU devices)",
        ),
        (
            "partition",
            SPLIT,
            "return None",
            "it answers None (is a 'return' missing?), not a list of 2 positive counts that sum up to the 3 blocks",
        ),
        ("partition", SPLIT, "return [-1, 4]", "it answers [-1, 4], not 2 positive counts that sum up to the 3 blocks"),
        (
            "partition",
            SPLIT,
            "return [float('nan')] * 2",
            "it answers [nan, nan], not a list of 2 positive counts that sum up to the 3 blocks",
        ),
        (
            "lr_schedule",
            RATE,
            "return 0.1",
            "it answers 0.1, not an LRSchedule: return one of pipeloom.core.contract.schedule, or "
            "what has its method at(step)",
        ),
        (
            "lr_schedule",
            RATE,
            "from pipeloom.core.contract.schedule import LRSchedule; return LRSchedule(float('nan'), 'constant', 0, "
            "10)",
            "its learning rate of step 1 is nan, not a number from 0 on",
        ),
        (
            "tasks",
            {"config": None},
            "return None",
            "it answers None (is a 'return' missing?), not a list of Tasks of pipeloom.core.contract.tasks",
        ),
        (
            "tasks",
            {"config": None},
            "from pipeloom.core.contract.tasks import Task; return Task('a', print)",
            "it answers the Task 'a' itself: put it into a list, return [task]",
        ),
        (
            "tasks",
            {"config": None},
            "from pipeloom.core.contract.tasks import Task; return [Task('a', print), Task('a', print)]",
            "it answers two tasks of the name 'a'",
        ),
        (
            "heads",
            {"config": None},
            "from pipeloom.core.contract.tasks import HeadFor; return HeadFor('a', '*', print)",
            "it answers the head for 'a' itself: put it into a list, return [head]",
        ),
        (
            "heads",
            {"config": None},
            "from pipeloom.core.contract.tasks import HeadFor; return [HeadFor('a', 'b', print)] * 2",
            "it answers two heads of the task 'a' for the model 'b'",
        ),
        (
            "open_dataset",
            DATA,
            "return [1, 2]",
            "it answers [1, 2], not a Dataset: return an object of a class derived "
            "from pipeloom.core.contract.dataset.Dataset",
        ),
        (
            "open_dataset",
            DATA,
            "from pipeloom.core.contract.dataset import Dataset; return Dataset()",
            "its dataset has no 'task', the name of its task: it is None",
        ),
        (
            "build_model",
            MODEL,
            "return []",
            "it answers [], not a ModelSpec: return a ModelSpec of pipeloom.core.contract.blocks",
        ),
        (
            "build_model",
            MODEL,
            "from pipeloom.core.contract.blocks import ModelSpec; return ModelSpec('m', 't', (), {'loss': 1.0})",
            "'blocks' of its model must be a tuple of Blocks, not ()",
        ),
    ],
)
def test_a_wrong_answer_names_plugin_and_hook(mine, hook, given, body, what):
    manager = mine(f"{HOOK}pipeloom_{hook}({', '.join(given)}):\n    {body}\n".replace("):\n    ", "): "))
    assert says(getattr(manager.hook, f"pipeloom_{hook}"), **given) == f"{WHOSE}, hook pipeloom_{hook}: {what}"


def test_a_model_is_looked_at_block_by_block(mine):
    text = (
        "from pipeloom.core.contract.blocks import *\n" + HOOK + "pipeloom_build_model(config):\n    spec = "
        "ParameterSpec('w', (2, 3))\n"
        "    block = Block('a', (spec,), Cost(1.0, 1.0, 1.0), ('input_ids',), print)\n    return ModelSpec('m', "
        "'t', config.blocks(block), {'loss': 1})\n"
    )
    ask = mine(text).hook.pipeloom_build_model
    from dataclasses import replace

    from pipeloom.core.contract.blocks import Borrow, ParameterSpec

    wrong = {
        "its model has two blocks of the name 'a'": lambda block: (block, block),
        "'cost' of its block 'a' must be a Cost, not None": lambda block: (replace(block, cost=None),),
        "'inputs' of its block 'a' must be a tuple of names of fields, not 'ids'": lambda block: (
            replace(block, inputs="ids"),
        ),
        "'build' of its block 'a' must be a function, not None": lambda block: (replace(block, build=None),),
        "its block 'a' borrows from the block 'b', which is not there": lambda block: (
            replace(block, borrow=Borrow("b", "x", "y", block)),
        ),
        "its model has two shapes of the parameter 'w': (2, 3) and (3, 2)": lambda block: (
            block,
            replace(block, name="b", parameters=(ParameterSpec("w", (3, 2)),)),
        ),
    }
    for what, blocks in wrong.items():
        said = says(ask, config=SimpleNamespace(blocks=blocks), task=None)
        assert said == f"{WHOSE}, hook pipeloom_build_model: {what}"
    assert ask(config=SimpleNamespace(blocks=lambda block: [block]), task=None).blocks[0].name == "a"


def test_what_a_plugin_says_to_its_user_stays_as_it_is(mine):
    manager = mine(
        HOOK + "pipeloom_partition(blocks):\n    from pipeloom.core.base.errors import UsageError\n    raise "
        "UsageError('--split: give it')\n"
    )
    assert says(manager.hook.pipeloom_partition, **SPLIT) == "--split: give it"


# --- while a run goes on


def test_every_plugin_hears_of_a_step_also_after_one_that_fails(mine):
    heard = []
    run = SimpleNamespace(config=None, is_main=False, heard=heard)
    manager = mine(HOOK + "pipeloom_on_run_end(run): raise KeyError('gone')\n")
    manager._manager.register(SimpleNamespace(pipeloom_on_run_end=calls_of(heard)), name="jsonl_too")
    manager.versions["jsonl_too"] = "test 1.0"
    with pytest.raises(RunError) as raised:  # exit code 1: the run has begun
        manager.hook.pipeloom_on_run_end(run=run, error=None)
    assert str(raised.value).startswith(
        f"{WHOSE}, hook pipeloom_on_run_end: KeyError: 'gone' (mine.py, line 3)"
    ) and heard == [run]


def calls_of(heard):
    import pipeloom

    @pipeloom.hookimpl
    def pipeloom_on_run_end(run):
        heard.append(run)

    return pipeloom_on_run_end


def test_what_it_answered_with_is_its_own_too(mine):
    manager = mine(HOOK + "pipeloom_on_run_end(run): pass\ndef read(): return {}['ids']\n")
    read = manager.get("./mine.py").read
    assert says(blaming(manager)(read)).startswith(f"{WHOSE}: KeyError: 'ids' (mine.py, line 4)")
    with pytest.raises(ZeroDivisionError):  # not the plugin's: it keeps its traceback
        blaming(manager)(lambda: 1 / 0)()


def test_a_traceback_is_shown_or_kept(mine, tmp_path, monkeypatch, capfd):
    place = mine(HOOK + "pipeloom_place(): raise KeyError('x')\n").hook.pipeloom_place
    monkeypatch.setenv("PIPELOOM_TRACEBACK", "1")
    assert says(place, **PLACE) == f"{WHOSE}, hook pipeloom_place: KeyError: 'x' (mine.py, line 3)"
    assert capfd.readouterr().err.startswith("Traceback (most recent call last):\n")
    monkeypatch.delenv("PIPELOOM_TRACEBACK")
    (tmp_path / "logs").mkdir()
    monkeypatch.setenv("PIPELOOM_JOB", json.dumps({"directory": str(tmp_path)}))
    monkeypatch.setenv("RANK", "1")
    kept = tmp_path / "logs" / "traceback_of_rank_1.txt"
    assert says(place, **PLACE).endswith(f"KeyError: 'x' (mine.py, line 3); traceback: {kept}")
    assert 'mine.py", line 3' in kept.read_text() and capfd.readouterr().err == ""


# --- installed packages


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def package(folder, entry_points, metadata=b"Name: shelf\nVersion: 2.0\n"):
        info = tmp_path / folder
        info.mkdir(exist_ok=True)
        if metadata is not None:
            (info / ("PKG-INFO" if folder.endswith("egg-info") else "METADATA")).write_bytes(metadata)
        if entry_points is not None:
            (info / "entry_points.txt").write_bytes(entry_points)
            look_through.cache_clear()

    return package


@pytest.mark.parametrize(
    "entry_points",
    [
        b"[console_scripts]\nno entry at all\n",
        b"name = before.any:section\n",
        b"[\n",
        b"\xff\xfe[console_scripts]\nx = \xff\n",
        b"[a]\n[a]\nx = y\nx = z\n",
        b"",
    ],
)
@pytest.mark.parametrize("metadata", [b"Name: shelf\nVersion: 2.0\n", b"", b"\xff\xfe", None])
def test_a_malformed_package_harms_nobody(site, entry_points, metadata):
    site("broken-1.0.dist-info", entry_points, metadata)
    site("old.egg-info", entry_points, metadata)
    site("shelf-2.0.dist-info", b"[pipeloom]\nzig = zig_module [extra]\n")
    assert [offer.distribution for offer in installed_plugins()["zig"]] == ["shelf 2.0"] and scan()[1] == []
    PluginManager().load(["bert"])


def test_a_line_that_is_none_is_one_warning(site):
    site("shelf-2.0.dist-info", b"[pipeloom]\n# one\nnonsense\nzig = zig_module:Zig\n= x\n")
    assert scan()[1] == ["shelf 2.0: line 3 of its entry_points.txt is no 'name = module': nonsense (and 1 more)"]
    assert "  warning: shelf 2.0: line 3 of" in listing.describe_plugins()
    site("shelf-2.0.dist-info", b"[pipeloom]\nzig = two words\n", None)
    assert says(PluginManager().load, ["zig"]) == (
        "plugin 'zig' (shelf 2.0), its import: its entry point is 'two "
        "words', which is neither a module nor "
        "module:object"
    )


@pytest.mark.parametrize(
    "text, how",
    [
        (
            "import sys\nsys.exit(3)",
            "it calls sys.exit(3) (a_bad_import.py, line 2); PIPELOOM_TRACEBACK=1 shows the traceback",
        ),
        ("import os\nos._exit(3)", "it calls os._exit(3)"),
        ("import posix\nposix._exit(3)", "it ends the process with exit code 3"),
        ("import os\nos.kill(os.getpid(), 9)", "it ends the process by SIGKILL"),
        ("raise KeyboardInterrupt", "it raises KeyboardInterrupt"),
        ("import time\nprint('noise')\ntime.sleep(60)", "it takes more than 0.2 s"),
    ],
)
def test_an_import_that_ends_the_process_is_a_line_of_the_list(site, tmp_path, monkeypatch, capfd, text, how):
    monkeypatch.setattr(listing, "IMPORT_SECONDS", 0.2 if "sleep" in text else 20.0)
    (tmp_path / "a_bad_import.py").write_text(text + "\n")
    site("shelf-2.0.dist-info", b"[pipeloom]\nzig = a_bad_import\n")
    assert listing.examine(Offer("zig", "a_bad_import", "shelf 2.0")) == (
        False,
        f"plugin 'zig' (shelf 2.0), its import: {how}",
    )
    assert capfd.readouterr() == ("", "")


def test_a_class_is_no_plugin(site, tmp_path):
    (tmp_path / "a_class_module.py").write_text(
        "import pipeloom\nclass Zig:\n    @pipeloom.hookimpl\n    def pipeloom_place(self): pass\n"
    )
    site(
        "shelf-2.0.dist-info",
        b"[pipeloom]\nzig = a_class_module:Zig\nzag = a_class_module:pipeloom\nzug = a_class_module:__name__\n",
    )
    load = PluginManager().load
    assert says(load, ["zig"]) == (
        "plugin 'zig' (shelf 2.0): is the class Zig: name an instance of it ('plugin = "
        "Zig()' in its module, and "
        "'module:plugin')"
    )
    assert says(load, ["zag"]).startswith("plugin 'zag' (shelf 2.0): it has no hooks")
    assert says(load, ["zug"]) == (
        "plugin 'zug' (shelf 2.0): is 'a_class_module', which has no hooks: a plugin is a "
        "module, or an object, with some "
        "marked by @pipeloom.hookimpl"
    )


def test_an_always_present_plugin_cannot_be_selected(site):
    assert says(PluginManager().load, ["console"]) == "plugin 'console' is always there: leave it out"
    with pytest.raises(UsageError, match="^plugin 'console': shelf 2.0 offers a plugin of the name of a built-in one"):
        site("shelf-2.0.dist-info", b"[pipeloom]\nconsole = x\n")
        PluginManager().load(["console"])
