#!/usr/bin/env bash
# A private image registry on loopback, so that tests pull for real, with real progress, without a hub.
# An engine on the same machine takes loopback registries without TLS.
#
#   registry.sh start DIR    start (or answer that it runs), print REGISTRY=…
#   registry.sh url DIR      print the address alone, such as 127.0.0.1:35001
#   registry.sh stop DIR     stop it and delete its images
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() { die "usage: registry.sh start|url|stop DIR"; }

[ $# -eq 2 ] || usage
VERB=$1
DIR=$(absolute "$2")
CONFIG=$DIR/registry.yml
PIDFILE=$DIR/registry.pid

# Only the program is wanted, not the package's service on the usual port: unpacked, not installed.
registry_bin() {
    local cache=$VAR/cache/docker-registry
    if has docker-registry; then
        command -v docker-registry
        return 0
    fi
    if [ ! -x "$cache/usr/bin/docker-registry" ]; then
        has apt-get || die "docker-registry is missing; install it"
        mkdir -p "$cache" "$VAR/log"
        say "unpacking the distribution's docker-registry"
        (cd "$cache" && chmod 755 . && apt-get download docker-registry >"$VAR/log/registry.log" 2>&1 &&
            dpkg-deb -x docker-registry_*.deb . && rm -f docker-registry_*.deb) ||
            die "could not get docker-registry; see $VAR/log/registry.log"
    fi
    echo "$cache/usr/bin/docker-registry"
}

pid() { cat "$PIDFILE" 2>/dev/null || true; }
runs() { is_ours "$(pid)" "$CONFIG"; }
address() { sed -n 's/^  addr: //p' "$CONFIG"; }
answers() { curl -fsS -m 2 "http://$(address)/v2/"; }

start() {
    local bin
    if runs; then return 0; fi
    has curl || { need_root curl curl && apt_install curl; }
    bin=$(registry_bin)
    cat >"$CONFIG" <<YAML
version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: $DIR/registry
  delete:
    enabled: true
http:
  addr: 127.0.0.1:$(free_port)
YAML
    rm -f "$PIDFILE"
    start_detached "$PIDFILE" "$DIR/registry.log" "$bin" serve "$CONFIG"
    wait_for 15 answers || die "the registry did not start; see $DIR/registry.log"
}

case $VERB in
    start)
        start
        say "registry at $(address)"
        echo "REGISTRY=$(address)"
        ;;
    url)
        [ -r "$CONFIG" ] || die "no registry was started in $DIR"
        address
        ;;
    stop)
        end_pid "$(pid)" "$CONFIG" 10
        rm -rf "$DIR/registry"
        rm -f "$PIDFILE" "$CONFIG"
        ;;
    *) usage ;;
esac
