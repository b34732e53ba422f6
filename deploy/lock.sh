#!/usr/bin/env bash
# Make the hashed locks anew from requirements.in and requirements-dev.in: lock.sh [--upgrade].
# They name neither an index nor a file address. Needs uv, which is installed into var/ if missing.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

UV=$VAR/tools/bin/uv
if has uv && uv --version >/dev/null 2>&1; then
    UV=uv
elif [ ! -x "$UV" ]; then
    say "installing uv into var/tools"
    python3 -m venv "$VAR/tools"
    "$VAR/tools/bin/python" -m pip install -q --disable-pip-version-check uv
fi

compile() {
    "$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header "$@"
}

compile "$@" requirements.in -o requirements.txt
# Under the runtime's versions, so that what is tested is what is installed.
compile "$@" requirements-dev.in -c requirements.txt -o requirements-dev.txt
say "$(grep -c '==' requirements.txt) runtime and $(grep -c '==' requirements-dev.txt) development packages locked"
