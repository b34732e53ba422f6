#!/usr/bin/env bash
# End and delete the rigs in var/rigs that a killed run left behind, and those started by hand; the
# rigs of a run that still goes on stay.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=deploy/rigs.sh
. "$DEPLOY/rigs.sh"

for rig in "$VAR"/rigs/*/; do
    [ -d "$rig" ] || continue
    rig=${rig%/}
    owner=$(cat "$rig/owner" 2>/dev/null || true)
    if is_ours "$owner" deploy/; then
        say "$rig is in use by process $owner"
        continue
    fi
    say "ending $rig"
    end_rig "$rig"
done
