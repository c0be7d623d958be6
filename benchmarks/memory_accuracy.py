"""How near the engine's answer on GPUs comes to published memory of ranks.

    python benchmarks/memory_accuracy.py FILE.csv [--json]

Reads a table with the columns rank0_mib to rank3_mib (runs of BERT in two stages, the engine's own plan) or memory_mib
(GPT of OneFlow's DLPerf), and prints MiB measured and predicted by ``plugins/executors/oneflow/gpu_memory.py`` for each.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from accuracy.memory import read_memory, summary  # noqa: E402

from pipeloom.core.base.errors import PipeloomError  # noqa: E402
from pipeloom.core.host.builtin import use_builtin  # noqa: E402
from pipeloom.plugins import TABLE  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", metavar="FILE.csv")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    options = parser.parse_args()
    use_builtin(TABLE)
    try:
        rows, notes = read_memory(options.table)
    except PipeloomError as error:
        print(f"memory_accuracy: error: {error}", file=sys.stderr)
        return error.exit_code
    found = summary(rows)
    if options.json:
        listed = [{**vars(row), "off": row.off} for row in rows]
        print(json.dumps({"table": options.table, "rows": listed, "notes": notes, **found}, indent=1))
        return 0
    for row in rows:
        print(f"{row.measured:9.0f} MiB  {row.predicted:9.0f} MiB  {row.off:+6.1%}  {row.name}, rank {row.rank}")
    for note in notes:
        print(f"note: {note}")
    print(f"{found['rows']} ranks: off by {found['mean']:.1%} on average, {found['largest']:.1%} at the most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
