# Shared by every script in deploy/; sourced, never run. In charge of: where things lie, messages,
# packages of the distribution, waiting, ending processes. Not in charge of: what is installed or started.
# shellcheck shell=bash

DEPLOY=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
ROOT=$(dirname "$DEPLOY")
VAR=${DS01_VAR:-$ROOT/var}

# A minimal PATH (cron, su) lacks the places where Debian keeps dockerd and iptables.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

has() { command -v "$1" >/dev/null 2>&1; }

# Seconds since an unspecified start, with hundredths, for the times that scripts report.
now() { cut -d' ' -f1 /proc/uptime; }

seconds_since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }

# need_root WHAT PACKAGE…: stop with what to do unless packages may be installed here.
need_root() {
    local what=$1
    shift
    has apt-get || die "$what is missing and this is not a Debian or Ubuntu machine. Install: $*"
    is_root || die "$what is missing. Ask an administrator to run: apt-get install $*"
}

# apt_install PACKAGE…: install without recommendations; refresh the lists only when they are
# missing or older than a day.
apt_install() {
    local stamp=/var/lib/apt/periodic/update-success-stamp log
    mkdir -p "$VAR/log"
    log=$VAR/log/apt.log
    say "installing $* (log: $log)"
    if [ -z "$(find "$stamp" "$VAR/log/apt.updated" -mtime -1 2>/dev/null)" ]; then
        apt-get -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 ||
            say "apt-get update reported errors, going on with what is there"
        touch "$VAR/log/apt.updated"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y \
        --no-install-recommends "$@" >>"$log" 2>&1 </dev/null ||
        die "could not install $*; see the end of $log"
}

# apt_has PACKAGE: the distribution offers it (docker-cli, for one, is a package of its own only
# in later releases).
apt_has() { apt-cache show "$1" 2>/dev/null | grep -q '^Package:'; }

# wait_for SECONDS COMMAND…: repeat until it succeeds; 1 when time is up.
wait_for() {
    local limit=$1 start
    shift
    start=$SECONDS
    until "$@" >/dev/null 2>&1; do
        [ $((SECONDS - start)) -lt "$limit" ] || return 1
        sleep 0.1
    done
}

# is_ours PID WORD: alive, not a zombie, and WORD stands in its command line. A pid from a file may
# have been given to another process since; nothing is ended on its number alone.
is_ours() {
    [ -n "${1:-}" ] && [ -r "/proc/$1/cmdline" ] && tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null |
        grep -qF -- "$2"
}

# end_pid PID WORD SECONDS: TERM, wait, then KILL; nothing when it is not ours.
end_pid() {
    local pid=${1:-} word=$2 limit=${3:-15} start=$SECONDS
    is_ours "$pid" "$word" || return 0
    kill -TERM "$pid" 2>/dev/null || return 0
    while is_ours "$pid" "$word"; do
        if [ $((SECONDS - start)) -ge "$limit" ]; then
            kill -KILL "$pid" 2>/dev/null || true
            sleep 0.2
            return 0
        fi
        sleep 0.1
    done
}

# start_detached PIDFILE LOG COMMAND…: in a session of its own, so that it outlives this script and
# the terminal; the pid is written before anything else can ask for it.
start_detached() {
    local pidfile=$1 log=$2
    shift 2
    # shellcheck disable=SC2016  # expanded by the inner shell
    setsid sh -c 'echo $$ >"$1"; shift; exec "$@"' sh "$pidfile" "$@" \
        </dev/null >>"$log" 2>&1 9>&- &
    wait_for 5 test -s "$pidfile" || die "could not start $1"
}

# free_port: a port on loopback that nobody uses at this moment.
free_port() {
    python3 -c 'import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])'
}

# absolute DIR: made and resolved.
absolute() { mkdir -p "$1" && (cd "$1" && pwd -P); }

# short_id TEXT: six characters that name a rig after its folder.
short_id() { printf '%s' "$1" | sha256sum | cut -c1-6; }

# apt_install_idle PACKAGE…: the same, but the packages' services are not started: tests want the
# programs, not another engine or database on the machine's usual ports.
apt_install_idle() {
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        made=yes
    fi
    local rc=0
    (apt_install "$@") || rc=$?
    if [ -n "$made" ]; then rm -f $policy; fi
    return $rc
}
