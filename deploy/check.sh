#!/usr/bin/env bash
# Everything that can be said without running the portal: style, types, imports, migrations, settings.
# Runs all checks, also after one has failed, and names those that did.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

"$DEPLOY/setup.sh" --dev
BIN=$ROOT/.venv/bin
FAILED=()

# The checks look at the project, not at this machine's configuration.
export DEBUG=True DATABASE_URL="sqlite:///$VAR/check.sqlite3" DS01_GPUS=simulated:1xA100-40GB

check() {
    local name=$1 start
    shift
    start=$(now)
    if "$@" </dev/null; then
        say "$name: passed in $(seconds_since "$start") s"
    else
        FAILED+=("$name")
        say "$name: FAILED"
    fi
}

check style "$BIN/ruff" check .
check format "$BIN/ruff" format --check .
check types "$BIN/mypy" ds01portal catalog workspaces manage.py
check imports "$BIN/lint-imports"
check migrations "$BIN/python" manage.py makemigrations --check --dry-run
check settings "$BIN/python" manage.py check --fail-level WARNING
check source "$BIN/python" -m pytest -q ds01portal/tests/test_source.py

[ ${#FAILED[@]} -eq 0 ] || die "failed: ${FAILED[*]}"
say "all checks passed"
