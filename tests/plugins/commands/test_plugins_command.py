"""``plugins --check``, ``--hooks``, ``--json`` and ``--requirements``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pipeloom import __version__
from pipeloom.core.commands.cli import main
from pipeloom.core.contract import hookspecs
from pipeloom.core.contract.hookspecs import Deprecation
from pipeloom.plugins import ALWAYS, BUILTIN

pytestmark = pytest.mark.fast

HOOK = "import pipeloom\n\n\n@pipeloom.hookimpl\ndef "


@pytest.fixture
def asked(tmp_path, monkeypatch, capsys):
    """``asked(text, "--check")`` writes the plugin ./mine.py and returns the exit code and what is said of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PIPELOOM_LOAD_PLUGINS", "zig,bad")  # whatever this machine has besides

    def run(text, *arguments):
        if text is not None:
            Path("mine.py").write_text(text)
            arguments = [*arguments, "./mine.py"]
        code = main(["plugins", *arguments])
        return code, capsys.readouterr()

    return run


def install(folder, name, text, version="1.0", **files):
    (folder / f"{name}_plugin.py").write_text(text)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[pipeloom]\n{name} = {name}_plugin\n")
    for file, content in files.items():
        (info / file).write_text(content)


def findings(said):
    return [(one["state"], one["hook"], one["text"]) for one in json.loads(said.out)["findings"]]


@pytest.mark.parametrize("name", [*BUILTIN, *ALWAYS])
def test_nothing_is_wrong_with_what_pipeloom_ships(name, asked):
    code, said = asked(None, "--check", name, "--json")
    assert code == 0 and {state for state, _, _ in findings(said)} <= {"right", "asks", "not asked"}


def test_a_plugin_that_keeps_the_contract(asked):
    text = (
        HOOK
        + "pipeloom_place(cluster, mesh):\n    from pipeloom.plugins.libraries.placement_search import contiguous\n"
    )
    text += "    return contiguous(cluster, mesh)\n\n\nPIPELOOM_API = 2\n\n\n@pipeloom.hookimpl\n"
    text += "def pipeloom_on_run_end(run, error):\n    pass\n"
    code, said = asked(text, "--check")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert code == 0 and lines[0] == "plugin './mine.py'" and lines[-1] == "nothing is wrong"
    assert lines[1] == "right it is found (file): mine.py"
    assert "right PIPELOOM_API = 2, the version of this contract" in lines
    assert "right pipeloom_place takes (cluster, mesh); it could also take model, config" in lines
    assert "right pipeloom_place its answers are as they must be for 20 of 20 shapes of a small cluster" in lines
    assert "not asked pipeloom_on_run_end is called in a run: --trace_plugins shows it" in lines


@pytest.mark.parametrize(
    "text, says",
    [
        (HOOK + "pipeloom_plce(cluster): pass\n", ("pipeloom_plce", "there is no hook 'pipeloom_plce' (did you mean")),
        (HOOK + "pipeloom_place(clutser): pass\n", ("pipeloom_place", "hook pipeloom_place has no argument 'clutser'")),
        ("PIPELOOM_API = 99\n" + HOOK + "pipeloom_place(): pass\n", ("", "is made for version 99 of the contract")),
        (
            HOOK + "pipeloom_tasks(): return 3\n",
            ("pipeloom_tasks", "plugin './mine.py' (file), hook pipeloom_tasks: it"),
        ),
        (
            HOOK + "pipeloom_lr_schedule(): 1 / 0\n",
            ("pipeloom_lr_schedule", "plugin './mine.py' (file), hook pipeloom_l"),
        ),
        (
            HOOK + "pipeloom_partition(): return [1]\n",
            ("pipeloom_partition", "plugin './mine.py' (file), hook pipeloom_p"),
        ),
        (
            HOOK + "pipeloom_add_options(options): options.add('seed', int, help='x')\n",
            ("", "plugin './mine.py' (file),"),
        ),
        ("import nothing_of_this_name\n", ("", "plugin './mine.py' (file), its import: ModuleNotFoundError")),
        ("x = 1\n", ("", "plugin './mine.py' (file): it has no hooks: mark functions of the contract")),
    ],
)
def test_what_is_wrong_is_said_of_its_hook(asked, text, says):
    code, said = asked(text, "--json", "--check")
    wrong = [(hook, line) for state, hook, line in findings(said) if state == "wrong"]
    assert code == 1 and len(wrong) == 1
    assert wrong[0][0] == says[0] and wrong[0][1].startswith(says[1])


def test_every_wrong_hook_is_said_and_not_the_first_alone(asked):
    text = HOOK + "pipeloom_plce(): pass\n\n@pipeloom.hookimpl\ndef pipeloom_place(x): pass\n"
    code, said = asked(text, "--check")
    assert code == 1 and said.out.splitlines()[-1].startswith("2 of ")


def test_what_a_plugin_asks_of_its_user_is_no_fault(asked):
    text = "from pipeloom.core.base.errors import UsageError\n" + HOOK
    code, said = asked(text + "pipeloom_partition():\n    raise UsageError('give --cut')\n", "--json", "--check")
    assert code == 0 and ("asks", "pipeloom_partition", "it asks its user: give --cut") in findings(said)


def test_a_deprecated_hook_and_a_heavy_import_are_said(asked, monkeypatch, tmp_path):
    (tmp_path / "jax.py").write_text("")
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    soon = Deprecation("pipeloom_on_run_end", 2, 3, "use another")
    monkeypatch.setattr(hookspecs, "DEPRECATIONS", (soon,))
    code, said = asked("import jax\n" + HOOK + "pipeloom_on_run_end(): pass\n", "--json", "--check")
    found = findings(said)
    assert ("note", "pipeloom_on_run_end", str(soon)) in found
    assert code == 1 and [text for state, _, text in found if state == "wrong"][0].endswith(
        "and brings in jax: import it inside functions"
    )


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--check", "inter_frist"], "no plugin 'inter_frist' (did you mean 'inter_first'?); there are: inter_first, "),
        (["--hooks", "consol"], "no plugin 'consol' (did you mean 'console'?); there are: "),
        (["--check", "./no.py"], "plugin './no.py': there is no such file"),
        (["--requirements", "berd"], "no plugin 'berd' (did you mean 'bert'?); there are: "),
        (["--requirements"], "--requirements: name plugins, or a --checkpoint"),
        (["--check", "bert", "--hooks", "bert"], "--check and --hooks: ask one of them at a time"),
        (["--chekc", "bert"], "no option '--chekc' (did you mean '--check'?)"),
        (["--checkpoint", "x"], "--checkpoint says of what --requirements are: give that too"),
        (["--requirements", "--checkpoint", "nothing/here"], "--checkpoint nothing/here: "),
    ],
)
def test_a_wrong_name_costs_a_line(asked, arguments, says):
    code, said = asked(None, *arguments)
    assert (code, said.out) == (2, "") and said.err.startswith(f"pipeloom: error: {says}") and said.err.count("\n") == 1


def test_hooks_are_listed_with_their_places(asked):
    text = HOOK + "pipeloom_place(cluster, mesh): pass\n\n"
    text += "@pipeloom.hookimpl(specname='pipeloom_on_step_end', hookwrapper=True)\n"
    code, said = asked(text + "def around(step):\n    yield\n", "--hooks")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert code == 0 and lines == [
        "plugin './mine.py' (file):",
        "pipeloom_place(cluster, mesh) one answer: strategy mine.py, line 4",
        "pipeloom_on_step_end(step) wrapper mine.py, line 7",
    ]


def test_json_has_the_same_keys_of_every_plugin(asked, tmp_path):
    install(tmp_path, "zig", '"""zig: stages in zigzag."""\n' + HOOK + "pipeloom_place(): pass\n")
    install(tmp_path, "bad", "1 / 0\n")
    code, said = asked(None, "--json")
    content = json.loads(said.out)
    assert code == 0 and content["pipeloom"] == __version__ and content["contract"] == hookspecs.CONTRACT_VERSION
    plugins = {one["name"]: one for one in content["plugins"]}
    assert len({tuple(one) for one in plugins.values()}) == 1
    assert {*BUILTIN, *ALWAYS, "zig", "bad"} == set(plugins)
    zig, bad, bert = (plugins[name] for name in ("zig", "bad", "bert"))
    assert (zig["kind"], zig["distribution"], zig["summary"]) == ("installed", "zig 1.0", "stages in zigzag.")
    assert zig["usable"] and [one["hook"] for one in zig["hooks"]] == ["pipeloom_place"]
    assert not bad["usable"] and "ZeroDivisionError" in bad["fault"] and bad["hooks"] == []
    layers = next(one for one in bert["options"] if one["name"] == "num_hidden_layers")
    assert (layers["type"], layers["minimum"], layers["section"]) == ("int", 1, "model")


def test_requirements_are_a_file_for_pip(asked, tmp_path):
    place = HOOK + "pipeloom_place(): pass\n"
    install(tmp_path, "zig", place)
    vcs = {"url": "https://x.y/bad", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}
    install(tmp_path, "bad", place.replace("place", "partition"), **{"direct_url.json": json.dumps(vcs)})
    Path("mine.py").write_text(place)
    code, said = asked(None, "--requirements", "zig,bert,-console", "bad", "./mine.py", "--json")
    content = json.loads(said.out)
    assert code == 0 and content["files"] == ["./mine.py"]
    assert content["requirements"] == [f"pipeloom=={__version__}", "zig==1.0", "bad @ git+https://x.y/bad@c0ffee"]
    code, said = asked(None, "--requirements", "zig", "./mine.py")
    lines = said.out.splitlines()
    assert [line for line in lines if line[0] != "#"] == [f"pipeloom=={__version__}", "zig==1.0"]
    assert lines[-1] == "# no distribution: copy ./mine.py, and select it where it then is"


def test_requirements_of_a_checkpoint_are_those_that_it_was_made_with(asked, tmp_path, monkeypatch):
    from pipeloom.plugins.commands.plugin_list import requirements

    install(tmp_path, "zig", HOOK + "pipeloom_place(): pass\n", version="2.0")
    recorded = {"zig": "zig 1.0", "bert": "0.0.9", "gone": "gone-pkg 3.1", "./mine.py": "file", "-console": ""}
    monkeypatch.setattr(requirements, "_of_checkpoint", lambda path: {k: v for k, v in recorded.items() if k[0] != "-"})
    content = json.loads(asked(None, "--requirements", "--checkpoint", "runs/a", "--json")[1].out)
    assert content["requirements"] == ["pipeloom==0.0.9", "zig==1.0", "gone-pkg==3.1"]
    assert "zig: it was 1.0, here is 2.0" in content["notes"] and "gone-pkg is not installed here" in content["notes"]
