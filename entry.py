"""Runs pipeloom from a checkout: ``python entry.py --plugins inter_first,bert,wiki_ofrecord``."""
import sys

if not (3, 8) <= sys.version_info[:2] <= (3, 10):
    sys.stderr.write(
        "pipeloom: needs Python 3.8 to 3.10 (OneFlow 0.9.0 has no wheel for others), this is Python %d.%d: "
        "use ./run_ppl.sh, which finds one\n" % tuple(sys.version_info[:2])
    )
    raise SystemExit(2)

if __name__ == "__main__":
    try:
        from pipeloom.core.cli import main
    except ImportError as error:
        # A missing dependency costs the user one line; a fault of our own keeps its traceback.
        if not isinstance(error, ModuleNotFoundError) or (error.name or "").split(".")[0] == "pipeloom":
            raise
        sys.stderr.write("pipeloom: %s: ./run_ppl.sh installs what is needed (or: pip install -e .)\n" % error)
        raise SystemExit(2)
    except KeyboardInterrupt:    # as main() ends then
        raise SystemExit(130)
    raise SystemExit(main())
