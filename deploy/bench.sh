#!/usr/bin/env bash
# Measure on the rigs that the tests use: bench.sh [arguments of bench/run.py]
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=deploy/rigs.sh
. "$DEPLOY/rigs.sh"
cd "$ROOT"

"$DEPLOY/setup.sh" --dev
start_rigs bench
.venv/bin/python bench/run.py "$@" </dev/null
