"""How near the planner's cost model comes to published step times.

    python benchmarks/planner_accuracy.py FILE.csv [--fit N] [--json]
    python benchmarks/planner_accuracy.py --page [--data FOLDER]

Reads rows with the columns of published tables (layers, hidden, heads, seq_length, vocab, micro_batch, global_batch,
tensor, data, pipeline, step_s; precision, recompute, device, nodes, gpus_per_node, system where they are), calibrates the
constants of the cluster on N rows chosen by rule (those that say the most of the constants; no measured time is looked
at), predicts the others, and prints MAPE, Spearman's rank correlation and regret. ``--page`` writes
docs/planner-accuracy.md from the tables in a folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from accuracy.judging import judge  # noqa: E402
from accuracy.rows import read_rows  # noqa: E402

from pipeloom.core.base.errors import PipeloomError, UsageError  # noqa: E402
from pipeloom.core.host.builtin import use_builtin  # noqa: E402
from pipeloom.plugins import TABLE  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", metavar="FILE.csv")
    parser.add_argument("--fit", type=int, default=6, metavar="N", help="rows to fit on, 10 at the most (default: 6)")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.add_argument("--page", action="store_true", help="write docs/planner-accuracy.md")
    parser.add_argument("--data", default="../shared/data/published", metavar="FOLDER", help="of the published tables")
    options = parser.parse_args()
    use_builtin(TABLE)
    try:
        if options.page:
            from accuracy.page import write_page

            return write_page(options.data)
        if options.table is None or not 1 <= options.fit <= 10:
            raise UsageError("name a table, and --fit 1 to 10")
        return _report(options.table, options.fit, options.json)
    except PipeloomError as error:
        print(f"planner_accuracy: error: {error}", file=sys.stderr)
        return error.exit_code


def _report(path: str, count: int, as_json: bool) -> int:
    rows, notes = read_rows(path)
    judged = judge(rows, count)
    figures = judged.figures()
    if as_json:
        content = {
            "table": path,
            "fitted_on": [judged.rows[number].name() for number in judged.fitted_on],
            "constants": judged.constants,
            "notes": notes,
            "predictions": [
                {
                    "row": row.name(),
                    "measured": row.seconds,
                    "predicted": predicted,
                    "fitted": number in judged.fitted_on,
                }
                for number, (row, predicted) in enumerate(zip(judged.rows, judged.predicted))
            ],
            **figures,
        }
        print(json.dumps(content, indent=1))
        return 0
    for note in notes:
        print(f"note: {note}")
    for system, constants in judged.constants.items():
        print(f"{system or 'constants'}: " + ", ".join(f"{name} {value:.4g}" for name, value in constants.items()))
    print("fitted on: " + "; ".join(judged.rows[number].name() for number in judged.fitted_on))
    for number, (row, predicted) in enumerate(zip(judged.rows, judged.predicted)):
        mark = "  (fitted)" if number in judged.fitted_on else ""
        print(f"{row.seconds:10.4g} s  {predicted:10.4g} s  {predicted / row.seconds - 1:+7.1%}  {row.name()}{mark}")
    print(
        f"{figures['rows']} rows that were not fitted on: MAPE {figures['mape']:.1%}, Spearman "
        f"{figures['spearman']:.3f}, regret {figures['regret']:.1%} (largest {figures['largest_regret']:.1%} of "
        f"{figures['choices']} choices)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
