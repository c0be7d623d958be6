"""Which GPUs there are, which of them the engine can run on, and that nothing is started on one that it cannot."""

from __future__ import annotations

import shutil
import subprocess

import jobs
import pytest
from gpus import A100, H100, M40, P100, V100, gpus, machine_with
from jobs import environment

from pipeloom.core.base import devices
from pipeloom.core.base.devices import Gpu, Gpus, understand
from pipeloom.core.base.errors import UsageError
from pipeloom.plugins.commands.doctor import machine

pytestmark = pytest.mark.fast

#: A libcuda.so.1 that knows the GPUs in FAKE_GPUS ("name:major.minor:GiB,..."; "crash": it aborts); version
#: FAKE_DRIVER.
LIBRARY = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static char name[8][100]; static int major[8], minor[8], count; static long gib[8];
int cuInit(unsigned flags) {
    const char *text = getenv("FAKE_GPUS"), *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (!text || (visible && !*visible)) return 100;
    if (!strcmp(text, "crash")) abort();
    for (char *one = strtok(strdup(text), ","); one; one = strtok(0, ","), count++)
        sscanf(one, "%99[^:]:%d.%d:%ld", name[count], &major[count], &minor[count], &gib[count]);
    return 0;
}
int cuGetErrorName(int error, const char **text) { *text = "CUDA_ERROR_NO_DEVICE"; return 0; }
int cuDriverGetVersion(int *version) { *version = atoi(getenv("FAKE_DRIVER")); return 0; }
int cuDeviceGetCount(int *found) { *found = count; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *text, int size, int device) { strncpy(text, name[device], size); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)gib[device] << 30; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? major[device] : which == 76 ? minor[device] : -1; return 0;
}
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices._find.cache_clear()
    yield
    devices._find.cache_clear()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder of the stand-in for the driver's library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for a stand-in of libcuda.so.1")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(LIBRARY)
    command = [compiler, "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(folder / "cuda.c")]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return folder


def test_code_runs_on_the_same_major_version_and_no_lower_minor_one():
    known = [
        (3, 7),
        (5, 0),
        (5, 2),
        (6, 0),
        (6, 1),
        (6, 2),
        (7, 0),
        (7, 2),
        (7, 5),
        (8, 0),
        (8, 6),
        (8, 7),
        (8, 9),
        (9, 0),
        (10, 0),
        (12, 0),
    ]
    assert [which for which in known if Gpu("x", which, 0, "0").has_code] == known[3:13]


CODE = "cannot run OneFlow 0.9.0, which has code for 6.0, 6.1, 7.0, 7.5, 8.0, 8.6 (Pascal to Ampere and Ada)"
ANOTHER = "use another GPU, or --device cpu (or CUDA_VISIBLE_DEVICES=)"


@pytest.mark.parametrize(
    "found, count, says",
    [
        (gpus(), None, ""),
        (gpus(A100, V100, P100), None, ""),
        (gpus(H100), None, f"GPU 0 (NVIDIA H100 80GB HBM3, compute capability 9.0) {CODE}: {ANOTHER}"),
        (
            gpus(A100, M40, V100, M40),
            None,
            f"GPU 1 (Tesla M40 24GB, compute capability 5.2) (and 1 more) {CODE}: leave it out by "
            "CUDA_VISIBLE_DEVICES=0,2, or use --device cpu",
        ),
        (gpus(A100, M40), 1, ""),  # the ranks do not come to it
        (gpus(V100, fault="too old"), 1, "too old; or use --device cpu, or hide the GPUs by CUDA_VISIBLE_DEVICES="),
        (gpus(M40, fault="too old"), 1, f"GPU 0 (Tesla M40 24GB, compute capability 5.2) {CODE}: {ANOTHER}"),
        (gpus(fault="no library"), 1, "no library; or use --device cpu, or hide the GPUs by CUDA_VISIBLE_DEVICES="),
    ],
)
def test_what_is_said_of_gpus(found, count, says):
    assert found.trouble(count) == says


SILENT = "and a driver that does not answer"


def answer(*kinds, result=0, driver=11080):
    found = [(name, *capability, 1 << 30) for name, capability in kinds]
    return {"result": result, "error": "CUDA_ERROR_X", "driver": driver, "devices": found}


@pytest.mark.parametrize(
    "said, files, count, fault",
    [
        (answer(A100, H100), 2, 2, ""),
        (answer(result=100), 2, 0, ""),
        (answer(), 0, 0, ""),
        (answer(A100, driver=11000), 1, 1, ""),
        (
            answer(A100, driver=10020),
            1,
            1,
            "the NVIDIA driver is for CUDA 10.2 at most, and CUDA 11.7 needs driver 450.80.02 or newer: update it",
        ),
        (answer(result=803), 2, 0, f"2 GPUs {SILENT}: cuInit fails with 803 (CUDA_ERROR_X); see what nvidia-smi says"),
        (answer(result=803), 0, 0, ""),
        ({"fault": "it crashes"}, 0, 0, ""),
        ({"fault": "it crashes"}, 1, 0, f"1 GPU {SILENT}: it crashes; see what nvidia-smi says"),
    ],
)
def test_what_the_driver_says_is_understood(monkeypatch, said, files, count, fault):
    monkeypatch.setattr(devices, "_device_files", lambda: files)
    found = understand(said)
    assert (len(found.devices), found.fault) == (count, fault)


def test_gpus_are_called_what_cuda_visible_devices_calls_them():
    found = understand(answer(M40, A100), "GPU-8f6c, 3")
    assert [gpu.visible_as for gpu in found.devices] == ["GPU-8f6c", "3"]
    assert "CUDA_VISIBLE_DEVICES=3," in found.trouble()


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles", "all", "none", "void", ",0", " ", "-1,0"])
def test_a_value_that_names_nothing_hides_all_without_asking(monkeypatch, value):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: pytest.fail("asked the driver"))
    assert devices.count_gpus() == 0


@pytest.mark.parametrize("value", [None, "0", "0,99", "2,0", "GPU-a, GPU-b", "MIG-GPU-a/1/0", "MIG-7b"])
def test_what_is_not_there_does_not_count(monkeypatch, tmp_path, value):
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    for name in ("PATH", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(devices, "_DEV", tmp_path)
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert devices.find_gpus() == Gpus() and devices.resolve_device("auto") == "cpu"
    text = f" that CUDA_VISIBLE_DEVICES={value} lets it see" if value else ""
    with pytest.raises(UsageError, match=f"^--device cuda: this machine has no GPU{text}; use --device cpu$"):
        devices.resolve_device("cuda")


def test_gpus_without_the_drivers_library_are_a_fault(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(devices, "_DEV", tmp_path)
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho 'GPU 1: B (UUID: y)'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert devices.find_gpus().fault.startswith("2 GPUs, but no driver library libcuda.so.1: install the NVIDIA driver")
    devices._find.cache_clear()
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    assert devices.find_gpus().fault.startswith("1 GPU, but no driver library libcuda.so.1")


def test_the_drivers_library_is_asked_in_a_process_of_its_own(driver, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    monkeypatch.setenv("FAKE_DRIVER", "12040")
    monkeypatch.setenv("FAKE_GPUS", "Tesla T4:7.5:15,NVIDIA B200:10.0:180")
    assert devices.ask_driver() == {
        "result": 0,
        "error": "",
        "driver": 12040,
        "devices": [["Tesla T4", 7, 5, 15 << 30], ["NVIDIA B200", 10, 0, 180 << 30]],
    }
    monkeypatch.setenv("FAKE_GPUS", "crash")
    assert devices.ask_driver() == {"fault": "it crashes or takes more than 60 s"}
    monkeypatch.delenv("FAKE_GPUS")
    assert devices.ask_driver() == {"result": 100, "error": "CUDA_ERROR_NO_DEVICE", "driver": 0, "devices": []}


def test_a_gpu_without_code_ends_a_command_in_one_line(driver, tmp_path):
    command = [*jobs.command(), "--output_dir", str(tmp_path / "run")]
    env = environment(LD_LIBRARY_PATH=str(driver), FAKE_GPUS="NVIDIA H200:9.0:141", FAKE_DRIVER="12020")
    env.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "") and not (tmp_path / "run").exists()
    assert done.stderr.startswith("pipeloom: error: GPU 0 (NVIDIA H200, compute capability 9.0) cannot run")
    assert done.stderr.count("\n") == 1


def test_doctor_says_what_the_gpus_are_good_for(monkeypatch):
    machine_gpus = lambda *kinds: monkeypatch.setattr(machine, "find_gpus", lambda: gpus(*kinds))
    machine_gpus()
    assert machine.devices().text == "no GPU: CPU processes stand for devices"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert machine.devices().text.endswith("stand for devices (CUDA_VISIBLE_DEVICES=0 names none that is here)")
    machine_gpus(V100, P100)
    found = machine.devices()
    assert found.status == "ok"
    assert found.text.startswith("2 GPUs: Tesla V100-SXM2-32GB, compute capability 7.0, 17 GB; Tesla P100")
    machine_gpus(H100, V100)
    assert machine.devices().status == "note" and "CUDA_VISIBLE_DEVICES=1" in machine.devices().text
    machine_gpus(H100)
    assert machine.devices().status == "bad" and "--device cpu" in machine.devices().text


def test_predict_refuses_a_gpu_before_it_reads_anything(monkeypatch):
    from pipeloom.plugins.libraries.huggingface.predicting import predict

    machine_with(monkeypatch, H100)
    with pytest.raises(UsageError, match="^GPU 0 .NVIDIA H100"):
        predict("no folder", "question_answering", {})
    with pytest.raises(UsageError, match="no folder"):
        predict("no folder", "question_answering", {}, device="cpu")
