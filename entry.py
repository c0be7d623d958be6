"""Runs pipeloom from a checkout: ``python entry.py --plugins inter_first,bert,wiki_ofrecord``."""

import os
import sys

if not (3, 8) <= sys.version_info[:2] <= (3, 10):
    sys.stderr.write(
        "pipeloom: needs Python 3.8 to 3.10 (OneFlow 0.9.0 has no wheel for others), this is Python %d.%d: "
        "use ./run_ppl.sh, which finds one\n" % tuple(sys.version_info[:2])
    )
    raise SystemExit(2)

if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    if folder not in sys.path:  # python -I and -P leave it out
        sys.path.insert(0, folder)
    from pipeloom.__main__ import run

    raise SystemExit(run())
