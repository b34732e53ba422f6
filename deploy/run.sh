#!/usr/bin/env bash
# Start the portal on this machine: install what is missing, prepare the database, start web and
# worker together, print the address and the sign-ins. Ctrl-C or TERM stops both; containers go on.
#
# PORT (8000) and BIND (127.0.0.1) say where; every setting may come from the environment or .env.
# What has not changed since the last start is not done again, and nothing that exists is
# overwritten. For production see deploy/systemd/.
# shellcheck disable=SC2317  # called through `once` and `trap`
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

STARTED=$(now)
PORT=${PORT:-8000}
BIND=${BIND:-127.0.0.1}
# Where this machine itself asks: a wildcard is no address to connect to.
case $BIND in 0.0.0.0) ASK=127.0.0.1 ;; *) ASK=$BIND ;; esac
PYTHON=$ROOT/.venv/bin/python
STAMPS=$VAR/state/stamps
SIGN_INS=$VAR/state/sign-ins.txt

# default NAME VALUE: for development, where neither the environment nor .env says anything.
default() {
    [ -z "${!1+set}" ] || return 0
    ! grep -qE "^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=" .env 2>/dev/null || return 0
    export "$1=$2"
}

# "DEBUG HOST DATABASE": how the settings see them, .env included; the database as a file's path or, for a
# server, as a sum that does not show its password; the host as a name the portal answers to.
read_settings() {
    "$PYTHON" - <<'PY'
import hashlib
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ds01portal.settings")
from django.conf import settings

database = settings.DATABASES["default"]
file = database["NAME"] if database["ENGINE"].endswith("sqlite3") else ""
hosts = [name.lstrip(".") for name in settings.ALLOWED_HOSTS if name != "*"]
print(settings.DEBUG, (hosts or ["localhost"])[0], file or hashlib.sha256(repr(database).encode()).hexdigest())
PY
}

has_nvidia_driver() { [ -e /proc/driver/nvidia/version ] || has nvidia-smi; }

hash_of() { cat "$@" 2>/dev/null | sha256sum | cut -d' ' -f1; }

# Another database, or one made anew, is prepared from the start.
database_mark() {
    case $DATABASE in
        /*) stat -c '%d-%i' "$DATABASE" 2>/dev/null || echo none ;;
        *) echo "$DATABASE" ;;
    esac
}

# once NAME MARK COMMAND…: not again while the mark and the database are the same.
once() {
    local name=$1 mark
    mark="$2 $(database_mark)"
    shift 2
    [ "$(cat "$STAMPS/$name" 2>/dev/null)" != "$mark" ] || return 0
    "$@"
    # The first step makes the database, so its mark is read again.
    echo "${mark% *} $(database_mark)" >"$STAMPS/$name"
}

manage() { "$PYTHON" manage.py "$@" >>"$VAR/log/prepare.log" 2>&1 </dev/null || {
    tail -n 15 "$VAR/log/prepare.log" >&2
    die "manage.py $1 failed; see $VAR/log/prepare.log"
}; }

migrate() {
    say "preparing the database"
    manage migrate --noinput
    manage createcachetable
}

sync_catalog() {
    say "loading the catalogue"
    manage sync_catalog
}

create_demo() {
    say "creating demo people"
    (umask 077 && "$PYTHON" manage.py create_demo >"$SIGN_INS.part" 2>>"$VAR/log/prepare.log" </dev/null) || {
        tail -n 15 "$VAR/log/prepare.log" >&2
        die "manage.py create_demo failed; see $VAR/log/prepare.log"
    }
    mv "$SIGN_INS.part" "$SIGN_INS"
}

demo_image() {
    local log=$VAR/log/demo_image.log
    ! "$DEPLOY/demo_image.sh" has || return 0
    ! "$DEPLOY/engine.sh" has-hub || return 0
    "$DEPLOY/demo_image.sh" demo 2>&1 | tee "$log" >&2 ||
        say "going on without the demo image; see $log"
}

prepare() {
    local sources catalogue
    mapfile -t sources < <(find ds01portal catalog workspaces -path '*/migrations/*.py' | sort)
    mapfile -t catalogue < <(find catalog -type f ! -path '*/tests/*' ! -name '*.pyc' \
        \( -path '*/data/*' -o -name '*sync*' -o -name 'aime*' \) | sort)
    once migrate "$(hash_of "${sources[@]}" requirements.txt)" migrate
    once catalogue "$(hash_of "${catalogue[@]}" ${AIME_CATALOG:+"$AIME_CATALOG"})" sync_catalog
    if [ "$DEBUGGING" != True ]; then
        mapfile -t sources < <(find static -type f | sort)
        once static "$(hash_of "${sources[@]}" requirements.txt)" manage collectstatic --noinput
    fi
}

healthy() {
    local line
    exec 3<>"/dev/tcp/$ASK/$PORT" || return 1
    printf 'GET /healthz HTTP/1.0\r\nHost: %s\r\n\r\n' "$HOST" >&3
    IFS= read -r -t 5 line <&3 || true
    exec 3>&-
    case $line in *" 200 "*) ;; *) return 1 ;; esac
}

# A process of its own session, so that Ctrl-C reaches this script alone and the order of the end is
# its own; told to stop if this script is killed.
start_part() {
    local name=$1 log=$VAR/log/$1.log
    shift
    if [ "$(stat -c %s "$log" 2>/dev/null || echo 0)" -gt 10000000 ]; then mv "$log" "$log.1"; fi
    setsid setpriv --pdeathsig TERM -- "$@" >>"$log" 2>&1 </dev/null 8>&- &
    PART=$!
    echo "$PART" >"$VAR/run/$name.pid"
}

alive() { kill -0 "$1" 2>/dev/null; }

stop_parts() {
    local part deadline=$((SECONDS + 20))
    trap '' INT TERM HUP
    for part in $WEB $WORKER; do kill -TERM "$part" 2>/dev/null || true; done
    for part in $WEB $WORKER; do
        while alive "$part" && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
        if alive "$part"; then
            say "process $part does not stop, killing it"
            kill -KILL "$part" 2>/dev/null || true
        fi
    done
    # What a killed part has left of its own session, such as gunicorn's workers, which hold the port.
    for part in $WEB $WORKER; do kill -KILL -- "-$part" 2>/dev/null || true; done
    rm -f "$VAR/run/web.pid" "$VAR/run/worker.pid"
}

# The one that died, for the message; nothing while both live.
dead_part() {
    if [ -n "$WEB" ] && ! alive "$WEB"; then echo web; elif [ -n "$WORKER" ] && ! alive "$WORKER"; then echo worker; fi
}

asked_to_stop() {
    say "stopping web and worker; containers go on"
    stop_parts
    say "stopped"
    exit 0
}

give_up() {
    tail -n 15 "$VAR/log/$1.log" >&2 2>/dev/null || true
    say "$1 ended; stopping the other (log: $VAR/log/$1.log)"
    stop_parts
    exit 1
}

"$DEPLOY/setup.sh"
mkdir -p "$VAR/log" "$VAR/run" "$VAR/state" "$VAR/workspaces" "$STAMPS"
exec 8>"$VAR/run/run.lock"
flock -n 8 || die "the portal of this folder runs already (web process $(cat "$VAR/run/web.pid" 2>/dev/null))"
if (exec 3<>"/dev/tcp/$ASK/$PORT") 2>/dev/null; then
    die "port $PORT is taken by another program; choose one: make run PORT=$((PORT + 1))"
fi

default DEBUG True
default DS01_WORKSPACE_ROOT "$VAR/workspaces"
if ! has_nvidia_driver; then
    default DS01_GPUS simulated:4xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb
    # The simulated cards have no driver that would say which images suit them.
    default MLC_ARCH CUDA_ADA
fi
export PYTHONUNBUFFERED=1

"$DEPLOY/engine.sh" ensure 8>&-
read -r DEBUGGING HOST DATABASE <<<"$(read_settings)"
[ -n "${DATABASE:-}" ] || die "the settings cannot be read; see the lines above"
prepare
if has docker; then demo_image 8>&-; fi
# After the image, which it offers to everybody; people who exist stay as they are.
once demo "people and images $(docker image inspect -f '{{.Id}}' ds01/demo-python:1 2>/dev/null || true)" create_demo

WEB='' WORKER=''
trap asked_to_stop INT TERM HUP
start_part worker "$PYTHON" manage.py run_worker
WORKER=$PART
start_part web "$ROOT/.venv/bin/gunicorn" -k asgi --no-control-socket --graceful-timeout 5 \
    --bind "$BIND:$PORT" ds01portal.asgi:application
WEB=$PART

deadline=$((SECONDS + 60))
until healthy 2>/dev/null; do
    dead=$(dead_part)
    [ -z "$dead" ] || give_up "$dead"
    [ $SECONDS -lt $deadline ] || give_up web
    sleep 0.1
done

say "ready after $(seconds_since "$STARTED") s"
printf '\n  DS01 Portal   http://%s:%s/\n\n' "${ASK/#127.0.0.1/localhost}" "$PORT"
if [ -s "$SIGN_INS" ]; then sed 's/^/  /' "$SIGN_INS"; fi
printf '\n  Logs: %s/log/   Stop: Ctrl-C\n\n' "$VAR"

wait -n "$WEB" "$WORKER" || true
give_up "$(dead_part)"
