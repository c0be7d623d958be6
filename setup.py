"""Packaging of pipeloom. Written so that any Python can read it far enough to be refused."""

import os
import re
import sys

# While pip only asks for metadata it must get it: then pip itself names the Python that does not fit,
# in one line. A refusal at that point would be wrapped in a page of "subprocess-exited-with-error".
_ASKS_FOR_METADATA = "egg_info" in sys.argv or "dist_info" in sys.argv
if not (3, 8) <= sys.version_info[:2] <= (3, 10) and not _ASKS_FOR_METADATA:
    sys.exit(
        "pipeloom needs Python 3.8 to 3.10 (OneFlow 0.9.0 has no wheel for others); "
        "this is Python {}.{}: use a 3.10, or ./run_ppl.sh, which finds one".format(*sys.version_info[:2])
    )

from setuptools import setup  # noqa: E402

_ROOT = os.path.dirname(os.path.abspath(__file__))


def _read(*parts):
    with open(os.path.join(_ROOT, *parts), "rb") as f:
        return f.read().decode("utf-8")


def _version():
    """The version, read and not imported: the dependencies are not there yet."""
    return re.search(r'^__version__ = "([^"]+)"', _read("pipeloom", "__init__.py"), re.M).group(1)


def _packages(folder):
    """The packages under ``folder``, by their names inside pipeloom (``core/data`` -> ``pipeloom.core.data``)."""
    found = []
    for path, folders, files in os.walk(os.path.join(_ROOT, folder)):
        folders[:] = sorted(f for f in folders if re.match(r"[A-Za-z_]\w*$", f) and f != "__pycache__")
        if any(f.endswith(".py") for f in files):
            found.append("pipeloom." + os.path.relpath(path, _ROOT).replace(os.sep, "."))
    return found


#: What 'prepare' reads text with: wikitext, and the ends of sentences in many languages (by Wikimedia).
_PREPARE = ["mwparserfromhell", "sentencex"]

setup(
    name="pipeloom",
    version=_version(),
    description="A plugin-based trainer for hybrid-parallel transformers on OneFlow",
    long_description=_read("README.md") if os.path.exists(os.path.join(_ROOT, "README.md")) else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.8,<3.11",
    # core/ and plugins/ are never installed under these bare names: two projects that did so
    # would silently overwrite each other.
    package_dir={"pipeloom": "pipeloom", "pipeloom.core": "core", "pipeloom.plugins": "plugins"},
    packages=["pipeloom", "pipeloom.testing"] + _packages("core") + _packages("plugins"),
    include_package_data=True,
    package_data={"pipeloom": ["py.typed"]},
    install_requires=[
        "oneflow==0.9.0",
        # Even on a CPU OneFlow's library asks the loader for libcudnn.so.8 and libcublas.so.11.
        "nvidia-cudnn-cu11<9",
        "nvidia-cublas-cu11",
        "numpy<2",
        "protobuf>=3.20,<4",
        "tensorboard==2.20.*; python_version >= '3.9'",
        "tensorboard>=2.11,<2.15; python_version < '3.9'",
        "setuptools<82",  # the tensorboard command imports pkg_resources, which 82 dropped
        "pluggy>=1.0",
        "tokenizers; python_version >= '3.9'",
        "tokenizers<0.21; python_version < '3.9'",  # 0.21 offers itself to 3.8 without a wheel for it
        "safetensors",
        "rich",
        "PyYAML",
    ],
    # wheel: setuptools before 70.1 cannot build one without it, and a test does.
    extras_require={
        # Products of matrices on several threads: the launcher preloads it for its ranks (docs/oneflow-notes.md).
        "mkl": ["mkl"],
        # The picture of a plan (plan --png), and of the layout among TensorBoard's images.
        "pictures": ["matplotlib"],
        "prepare": _PREPARE,
        "test": _PREPARE
        + ["matplotlib", "pytest", "pytest-xdist", "hypothesis", "wheel", "ruff", "mypy; python_version >= '3.10'"],
        "zstd": ["backports.zstd; python_version >= '3.9'"],  # .zst files for 'prepare'
    },
    entry_points={
        "console_scripts": ["pipeloom = pipeloom.__main__:run"],
        # By the name of its module: pytest then knows it again where a command names it with -p.
        "pytest11": ["pipeloom.testing.pytest_plugin = pipeloom.testing.pytest_plugin"],
    },
)
