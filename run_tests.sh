#!/usr/bin/env bash
# Runs the tests; the first time it also sets up .venv. Arguments go to pytest (./run_tests.sh -m fast).
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
"$root/scripts/setup_env.sh" test
cd "$root"
# Without a path among the arguments pytest.ini says which: tests/.
exec .venv/bin/python -m pytest "$@"
