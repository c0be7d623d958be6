"""Runs pipeloom: ``python -m pipeloom --plugins inter_first,bert,wiki_ofrecord``."""

import sys

if not (3, 8) <= sys.version_info[:2] <= (3, 10):
    sys.stderr.write(
        "pipeloom: needs Python 3.8 to 3.10 (OneFlow 0.9.0 has no wheel for others), this is Python "
        "%d.%d\n" % tuple(sys.version_info[:2])
    )
    raise SystemExit(2)


def run(argv=None):
    """Run the command line; returns its exit code. A missing dependency costs the user one line."""
    try:
        from pipeloom.core.commands.cli import main
        from pipeloom.plugins import TABLE
    except ImportError as error:
        # A fault of our own keeps its traceback.
        if not isinstance(error, ModuleNotFoundError) or (error.name or "").split(".")[0] == "pipeloom":
            raise
        sys.stderr.write("pipeloom: %s: ./run_ppl.sh installs what is needed (or: pip install -e .)\n" % error)
        return 2
    except KeyboardInterrupt:  # as main() ends then
        return 130
    return main(argv, TABLE)


if __name__ == "__main__":
    raise SystemExit(run())
