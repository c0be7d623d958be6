"""The doctor: a line per check, what to do where one is bad, never a traceback."""

from __future__ import annotations

import re
import resource
import socket
import time
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from pipeloom.core.commands.cli import main
from pipeloom.core.host.discovery import look_through
from pipeloom.plugins.commands import doctor as doctors
from pipeloom.plugins.commands.doctor import connections, machine, ranks, software
from pipeloom.plugins.commands.doctor.finding import bad, note, ok
from pipeloom.plugins.executors.oneflow import OneFlow

ROOT = Path(__file__).resolve().parents[3]
fast = pytest.mark.fast
Usage = namedtuple("Usage", "total used free")


@fast
def test_a_line_per_check_and_no_engine(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code = main(["doctor", "--no-engine"])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == "" and all(re.match(r"(ok   |note |bad  ) [a-z ]{14} \S", line) for line in lines[:-1])
    names = [line[6:20].strip() for line in lines[:-1]]
    assert (
        names[:4] == ["python", "libraries", "cuda libraries", "plugins"] and "engine" not in names and len(names) == 17
    )
    assert code == any(line.startswith("bad") for line in lines)
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


@fast
@pytest.mark.parametrize(
    "findings, code, last",
    [
        ([ok("fine")], 0, "all 1 checks went well"),
        ([ok("fine"), note("hm")], 0, "all 2 checks went well, 1 with a note"),
        ([ok("fine"), bad("do\nthis"), note("hm")], 1, "1 of 3 checks went badly: what to do stands in their lines"),
    ],
)
def test_the_end_says_how_it_went(capsys, monkeypatch, findings, code, last):
    monkeypatch.setattr(
        doctors, "checks", lambda engine: [(str(number), lambda f=f: f) for number, f in enumerate(findings)]
    )
    assert doctors.doctor([]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == last and len(lines) == len(findings) + 1


@fast
@pytest.mark.parametrize("error", [ValueError("a\nb"), SystemExit(3), RecursionError()])
def test_a_check_that_breaks_is_bad_and_the_others_go_on(capsys, monkeypatch, error):
    def broken():
        raise error

    monkeypatch.setattr(doctors, "checks", lambda engine: [("one", broken), ("two", lambda: ok("fine"))])
    assert doctors.doctor([]) == 1
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(
        f"bad   one            this could not be looked at: {type(error).__name__}:"
    ) and second.startswith("ok    two")


@fast
def test_its_own_options(capsys):
    assert main(["doctor", "--no-engin"]) == 2
    assert (
        capsys.readouterr().err
        == "pipeloom: error: 'doctor' has no option '--no-engin' (did you mean '--no_engine'?); it has --no-engine\n"
    )
    assert main(["doctor", "--help"]) == 0 and "--no-engine" in capsys.readouterr().out


# --- software


@fast
def test_the_pins_are_those_of_setup_py():
    text = (ROOT / "setup.py").read_text()
    required = re.findall(
        r'^        "([A-Za-z0-9-]+)([^;"]*)', text[text.index("install_requires") : text.index("extras_require")], re.M
    )
    assert {name for name, _ in required} == set(software.PINS)
    for name, limits in required:
        if name in ("tensorboard", "tokenizers"):  # two lines of setup.py for two Pythons
            continue
        for sign, version in re.findall(r"(==|>=|<)([\d.]+)", limits):
            lowest, too_high = software.PINS[name]
            assert version == (too_high if sign == "<" else lowest)


@fast
def test_a_library_that_is_missing_or_does_not_fit():
    there = {name: lowest or "1.0" for name, (lowest, _) in software.PINS.items()}
    assert software.libraries(there.__getitem__).status == "ok"

    def version_of(name):
        if name == "tokenizers":
            raise metadata.PackageNotFoundError(name)
        return {**there, "numpy": "2.1.0", "protobuf": "3.19.6", "setuptools": "82"}[name]

    found = software.libraries(version_of)
    assert found.status == "bad" and found.text.startswith(
        "numpy 2.1.0 must be below 2, protobuf 3.19.6 must be at least 3.20 and below 4, setuptools 82 must be below "
        "82, "
        "tokenizers is missing: ./run_ppl.sh"
    )


@fast
def test_a_missing_cuda_library():
    assert software.cuda_libraries().status == "ok"
    found = software.cuda_libraries([("nvidia.cudnn", "libcudnn.so.7"), ("no.such", "libnone.so")])
    assert found.status == "bad" and found.text.startswith("no libcudnn.so.7 and no libnone.so, without which")


@fast
def test_a_broken_plugin_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = {
        "good": "import pipeloom\n@pipeloom.hookimpl\ndef pipeloom_on_run_start(run): pass\n",
        "torn": "1 / 0\n",
        "rude": "import sys\nsys.exit(3)\n",
    }
    for name, text in modules.items():
        (tmp_path / f"doctors_{name}.py").write_text(text)
    info = tmp_path / "pipeloom_site-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: pipeloom-site\nVersion: 1.0\n")

    def offer(*names):
        (info / "entry_points.txt").write_text("[pipeloom]\n" + "".join(f"{name} = doctors_{name}\n" for name in names))
        look_through.cache_clear()

    offer("good", "torn", "rude")
    found = software.plugins()
    assert found.status == "bad" and "'good'" not in found.text
    for says in (
        "plugin 'torn' (pipeloom-site 1.0), its import: ZeroDivisionError",
        "plugin 'rude' (pipeloom-site 1.0), its import: it calls sys.exit(3)",
    ):
        assert says in found.text
    offer("good")
    assert software.plugins() == ok(software.plugins().text) and "the installed good" in software.plugins().text


# --- the machine


@fast
def test_memory(tmp_path):
    def found(free_gb, limit=None):
        (tmp_path / "meminfo").write_text(f"MemTotal: 16000000 kB\nMemAvailable: {int(free_gb * 1e9 / 1024)} kB\n")
        if limit:
            (tmp_path / "memory.max").write_text(f"{limit}\n")
        return machine.memory(tmp_path / "meminfo", tmp_path)

    assert [found(free).status for free in (8, 2, 0.3)] == ["ok", "note", "bad"]
    assert found(8, "max").status == "ok"
    small = found(8, 10**9)
    assert small.status == "note" and small.text.startswith(
        "1.0 of 1.0 GB (the limit of this container) free: enough for 1 ranks"
    )


@fast
def test_shared_memory(monkeypatch, tmp_path):
    assert machine.shared_memory(tmp_path / "absent").status == "bad"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Usage(64e6, 0, 64e6))
    monkeypatch.setattr(machine, "count_gpus", lambda: 2)
    found = machine.shared_memory(tmp_path)
    assert found.status == "bad" and "--shm-size" in found.text
    monkeypatch.setattr(machine, "count_gpus", lambda: 0)
    assert machine.shared_memory(tmp_path).status == "note"


@fast
@pytest.mark.parametrize(
    "files, space, status, says",
    [
        ((4096, 4096), -1, "ok", "4096 open files"),
        ((256, 4096), -1, "bad", "256 open files at most: ulimit -n 1024"),
        ((256, 512), -1, "bad", "limits.conf"),
        ((-1, -1), -1, "ok", "any number of open files"),
        ((4096, 4096), 10**9, "note", "ulimit -v"),
    ],
)
def test_limits(monkeypatch, files, space, status, says):
    values = {resource.RLIMIT_NOFILE: files, resource.RLIMIT_AS: (space, space)}
    monkeypatch.setattr(machine.resource, "getrlimit", values.__getitem__)
    found = machine.limits()
    assert found.status == status and says in found.text


@fast
def test_folders(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELOOM_CACHE", str(tmp_path / "not" / "yet"))
    for free, status in ((50e9, "ok"), (1e9, "note"), (1e7, "bad")):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda path, free=free: Usage(free, 0, free))
        assert machine.run_folder().status == machine.cache().status == status
    (tmp_path / "runs").write_text("a file")
    found = machine.run_folder()
    assert found.status == "bad" and "runs cannot be written" in found.text and "--output_dir" in found.text


@fast
def test_the_clock(monkeypatch, tmp_path):
    assert machine.clock(tmp_path).status == "ok"
    now = time.time()
    monkeypatch.setattr(machine.time, "time", lambda: now - 3600)
    found = machine.clock(tmp_path)
    assert found.status == "bad" and re.search(r"3\d\d\d s behind that of the disk's server", found.text)
    monkeypatch.setattr(machine.time, "time", lambda: 1e9)
    assert "before this program was installed" in machine.clock(tmp_path).text


@fast
def test_cpu(monkeypatch):
    monkeypatch.setattr(OneFlow, "environment", lambda self, inherited: {})
    assert machine.cpu().status == "note" and "without AVX2" in machine.cpu().text


# --- the network


@fast
def test_network_of_this_machine(monkeypatch):
    assert connections.loopback().status == connections.ports().status == "ok"
    monkeypatch.setattr(connections.network, "cards", lambda: {"lo": "127.0.0.1", "eth0": None})
    assert connections.network_cards().status == "note"
    monkeypatch.setattr(connections.network, "cards", lambda: {"lo": "127.0.0.1", "eth0": "10.0.0.1"})
    assert connections.network_cards() == ok("lo 127.0.0.1, eth0 10.0.0.1 (--interface chooses one)")


@fast
def test_a_loopback_that_is_down(monkeypatch):
    class Deaf(socket.socket):
        def bind(self, address):
            raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(connections.socket, "socket", Deaf)
    found = connections.loopback()
    assert found.status == "bad" and "ip link set lo up" in found.text
    assert ranks.two_ranks() == bad(f"not started: {found.text}")


@fast
def test_a_machine_that_does_not_know_localhost(monkeypatch):
    def unknown(name, *_):
        assert name == "localhost"
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(connections.socket, "getaddrinfo", unknown)
    assert connections.loopback() == bad(
        "'localhost' is unknown here (Name or service not known): put '127.0.0.1 localhost' into /etc/hosts"
    )


@fast
@pytest.mark.parametrize(
    "answer, status, says",
    [
        (["10.0.0.7"], "ok", "is 10.0.0.7"),
        (["127.0.1.1"], "note", "--master_addr as a number"),
        (None, "note", "/etc/hosts"),
    ],
)
def test_the_name_of_this_host(monkeypatch, answer, status, says):
    def look_up(*_):
        if answer is None:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, 0, 0, "", (address, 0)) for address in answer]

    monkeypatch.setattr(connections.socket, "getaddrinfo", look_up)
    found = connections.host_name()
    assert found.status == status and says in found.text


@fast
@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy", "ALL_PROXY", "HTTPS_PROXY"])
def test_a_proxy_is_named_wherever_it_leads(name):
    for more in ({}, {"no_proxy": "127.0.0.1"}, {"NO_PROXY": "*"}):
        found = connections.proxy({name: "http://127.0.0.1:9", **more})
        assert found.status == "note" and found.text.startswith(f"{name} is set: ranks start without")
    assert connections.proxy({"no_proxy": "10.0.0.0/8", name: ""}) == ok("none is set")


# --- the engine


@fast
@pytest.mark.parametrize(
    "program, says",
    [
        (
            "import os, sys, socket, time\nif os.environ['RANK'] == '1': print('the cup fell'); sys.exit(1)\n"
            "s = socket.socket(); s.bind(('', int(os.environ['MASTER_PORT']))); s.listen(1); time.sleep(60)",
            "rank 1 of two failed (exit code 1): the cup fell: see",
        ),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "rank 0 of two failed (killed by SIGSEGV): it said nothing",
        ),
        ("import time; time.sleep(60)", "rank 0 and 1 of two did not end within 0.3 s"),
    ],
)
def test_two_ranks_that_fail_or_hang(program, says):
    found = ranks.two_ranks(0.3 if "within" in says else 20, program)
    assert found.status == "bad" and says in found.text


@fast
def test_an_engine_that_does_not_come(monkeypatch):
    monkeypatch.setattr(OneFlow, "import_probe", "import sys; print('some trace'); sys.exit('no libcudnn')")
    found = ranks.engine()
    assert found.status == "bad" and found.text.startswith("the import of OneFlow ends with 1: no libcudnn: ./run_")
    monkeypatch.setattr(OneFlow, "import_probe", "print('0.7.0')")
    assert ranks.engine().text.startswith("OneFlow 0.7.0 is not 0.9.0")
    monkeypatch.setattr(OneFlow, "import_probe", "import time; time.sleep(60)")
    assert ranks.engine(0.2).text.startswith("the import of OneFlow takes more than 0.2 s")


@fast
def test_products_that_are_wrong(monkeypatch):
    monkeypatch.setattr(OneFlow, "product_probe", "import sys; sys.exit('off by 3e-2')")
    found = ranks.products()
    assert found.status == "bad" and found.text.startswith("a product ends with 1: off by 3e-2")


def test_the_engine_adds_up_over_two_ranks():
    assert ranks.engine() == ok("OneFlow 0.9.0")
    found = ranks.products()
    assert found.status == "ok" and ("OpenBLAS of OneFlow, 1 thread" in found.text or "MKL" in found.text)
    assert ranks.two_ranks().status == "ok"
