#!/usr/bin/env bash
# setup.sh [--dev]: make .venv and install exactly what the hashed lock names; with --dev also what
# checking and testing need. A second call with nothing changed only compares a stamp.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
    '') LOCK=$ROOT/requirements.txt STAMP=$ROOT/.venv/.ds01-runtime ;;
    --dev) LOCK=$ROOT/requirements-dev.txt STAMP=$ROOT/.venv/.ds01-dev ;;
    *) die "usage: setup.sh [--dev]" ;;
esac
VENV=$ROOT/.venv
WANTED=$(sha256sum "$LOCK" | cut -d' ' -f1)

if [ -x "$VENV/bin/python" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$WANTED" ]; then exit 0; fi

# python3 itself, or a newer one beside it.
find_python() {
    local name
    for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
        if has "$name" && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

PYTHON=$(find_python) || die "Python 3.11 or newer is needed; python3 is $(python3 --version 2>&1 || echo missing)." \
    "Install a newer one and run: make setup PYTHON=/path/to/it"

mkdir -p "$VAR/log"
exec 9>"$VAR/.setup.lock"
flock 9
if [ "$(cat "$STAMP" 2>/dev/null)" = "$WANTED" ] && [ -x "$VENV/bin/python" ]; then exit 0; fi

if ! "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null; then
    need_root "Python's venv module" python3-venv
    apt_install python3-venv
fi
if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making .venv with $("$PYTHON" --version)"
    "$PYTHON" -m venv --clear "$VENV"
fi
say "installing $(grep -c '==' "$LOCK") locked packages (log: $VAR/log/pip.log)"
start=$(now)
"$VENV/bin/python" -m pip install --disable-pip-version-check --require-hashes --no-deps -r "$LOCK" \
    >"$VAR/log/pip.log" 2>&1 </dev/null || {
    tail -n 5 "$VAR/log/pip.log" >&2
    die "installation failed; see $VAR/log/pip.log"
}
echo "$WANTED" >"$STAMP"
# The development lock is made under the runtime lock's versions, so it contains that one.
if [ "${1:-}" = --dev ]; then
    sha256sum "$ROOT/requirements.txt" | cut -d' ' -f1 >"$VENV/.ds01-runtime"
fi
say "installed in $(seconds_since "$start") s"
