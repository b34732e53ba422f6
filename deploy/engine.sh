#!/usr/bin/env bash
# The machine's Docker Engine.
#
#   engine.sh ensure    use the one that answers, else (as root) install and start the distribution's
#   engine.sh has-hub   exit 0 when Docker Hub can be reached, within three seconds
#
# Works with systemd and without. Not in charge of: the test engines (test_engine.sh), NVIDIA's
# container toolkit, who belongs to the group docker.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PIDFILE=$VAR/run/dockerd.pid
LOG=$VAR/log/dockerd.log

socket() {
    case ${DOCKER_HOST:-} in
        '') echo /var/run/docker.sock ;;
        unix://*) echo "${DOCKER_HOST#unix://}" ;;
    esac
}

# Asked through the socket where there is one: a machine may have an engine and no docker command.
answers() {
    local path
    path=$(socket)
    if [ -n "$path" ]; then
        python3 - "$path" <<'PY'
import socket, sys

with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(3)
    try:
        s.connect(sys.argv[1])
        s.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
        sys.exit(b" 200 " not in s.recv(64))
    except OSError:
        sys.exit(1)
PY
    else
        has docker && timeout 10 docker version >/dev/null 2>&1
    fi
}

systemd_runs() { [ -d /run/systemd/system ]; }

# Containers outlive a restart of the engine, logs do not fill the disk. Written only for an engine
# that this script installs and that nobody has configured.
write_daemon_json() {
    [ -e /etc/docker/daemon.json ] && return 0
    mkdir -p /etc/docker
    cat >/etc/docker/daemon.json <<'JSON'
{
  "live-restore": true,
  "log-driver": "json-file",
  "log-opts": {"max-size": "10m", "max-file": "3"}
}
JSON
}

install_engine() {
    local wanted=()
    if ! has dockerd; then
        wanted+=(docker.io iptables ca-certificates)
        write_daemon_json
    fi
    # The command is in docker.io in older releases, a package of its own in later ones.
    if ! has docker; then if apt_has docker-cli; then wanted+=(docker-cli); else wanted+=(docker.io); fi; fi
    has iptables || wanted+=(iptables)
    [ ${#wanted[@]} -eq 0 ] || apt_install "${wanted[@]}"
    has dockerd || die "docker.io was installed but dockerd was not found"
}

start_engine() {
    if systemd_runs; then
        say "starting docker.service"
        systemctl start docker >&2 || die "docker.service does not start; see: journalctl -u docker"
        return 0
    fi
    mkdir -p "$VAR/run" "$VAR/log"
    say "starting dockerd (log: $LOG)"
    # What a killed engine left would stop a new one.
    if [ -e /var/run/docker.pid ] && ! is_ours "$(cat /var/run/docker.pid)" dockerd; then
        rm -f /var/run/docker.pid
    fi
    rm -f "$PIDFILE"
    start_detached "$PIDFILE" "$LOG" dockerd --host=unix:///var/run/docker.sock
}

not_root() {
    local path
    path=$(socket)
    if [ -S "$path" ] && [ ! -w "$path" ]; then
        die "$(id -un) may not use Docker. Ask an administrator to run: usermod -aG docker $(id -un)" \
            "(then sign in again; members of that group are root on this machine)"
    fi
    die "no Docker Engine answers at $path, and installing one needs root." \
        "Ask an administrator to run: apt-get install docker.io && usermod -aG docker $(id -un)," \
        "or run this command as root, or set DOCKER_HOST"
}

ensure() {
    if answers; then
        has docker || ! is_root || install_engine
        return 0
    fi
    if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != unix:///var/run/docker.sock ]; then
        die "no Docker Engine answers at DOCKER_HOST=$DOCKER_HOST; start it, or unset DOCKER_HOST" \
            "to use this machine's own"
    fi
    is_root || not_root
    has apt-get || die "no Docker Engine answers and this is not a Debian or Ubuntu machine; install Docker Engine 20.10 or newer"
    install_engine
    if ! answers; then start_engine; fi
    if ! wait_for 60 answers; then
        tail -n 5 "$LOG" >&2 2>/dev/null || true
        die "Docker Engine was started but does not answer; see $LOG"
    fi
    say "Docker Engine answers"
}

# The registry's own address for image data: 401 is its answer to a stranger.
has_hub() {
    python3 - <<'PY'
import signal, sys, urllib.error, urllib.request

signal.alarm(3)  # a name server that never answers is not bound by the socket's timeout
try:
    urllib.request.urlopen("https://registry-1.docker.io/v2/", timeout=2.5)
except urllib.error.HTTPError as error:
    sys.exit(0 if error.code == 401 else 1)
except OSError:
    sys.exit(1)
PY
}

case ${1:-} in
    ensure) ensure ;;
    has-hub) has_hub 2>/dev/null ;;
    *) die "usage: engine.sh ensure|has-hub" ;;
esac
