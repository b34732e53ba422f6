#!/usr/bin/env bash
# A private Docker Engine for tests: own root, containerd, socket, bridge and address range, so that
# it can be stopped, killed and thrown away beside any other engine of the machine.
#
#   test_engine.sh start DIR [--live-restore] [--iptables]   start (or answer that it runs)
#   test_engine.sh restart DIR     stop and start the engine alone; with --live-restore its containers go on
#   test_engine.sh down DIR        stop the engine alone (containers go on with --live-restore)
#   test_engine.sh up DIR          start it again with what `start` was told
#   test_engine.sh stop DIR        end everything that is its own; the images in DIR stay
#   test_engine.sh wipe DIR        stop, and delete DIR
#   test_engine.sh env DIR         print DOCKER_HOST=… and DS01_NETWORK_RANGE=…, a line each
#
# An `nvidia-container-runtime-hook` that does nothing lies on its PATH: with it the engine accepts
# device requests, so containers with GPU UUIDs really start on a machine without one.
#
# Without --iptables the engine leaves the packet filter alone, because a second engine that
# manages it empties the chains of the first. Containers still reach the outside through one
# masquerade rule of this script; what is then missing is the engine's isolation of networks.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() { die "usage: test_engine.sh start|restart|down|up|stop|wipe|env DIR [--live-restore] [--iptables]"; }

[ $# -ge 2 ] || usage
VERB=$1
case $2 in -*) usage ;; esac
DIR=$(absolute "$2")
shift 2

ID=$(short_id "$DIR")
BRIDGE=ds01t$ID
RUN=/run/ds01-rig-$ID
CONTAINERD_SOCK=$RUN/containerd.sock
COMMENT=ds01-rig-$ID
SOCKET=$DIR/docker.sock
# A unix socket's address ends at 107 characters.
[ ${#SOCKET} -le 100 ] || SOCKET=$RUN/docker.sock
CONF=$DIR/engine.conf

dockerd_pid() { cat "$DIR/dockerd.pid" 2>/dev/null || true; }
containerd_pid() { cat "$DIR/containerd.pid" 2>/dev/null || true; }
dockerd_runs() { is_ours "$(dockerd_pid)" "--data-root=$DIR/data"; }
containerd_runs() { is_ours "$(containerd_pid)" "$CONTAINERD_SOCK"; }
answers() { curl -fsS -m 2 --unix-socket "$SOCKET" http://engine/_ping; }

# The second byte of 10.X.0.0/16: every rig a range of its own, the first free one from a place
# that depends on its folder.
choose_range() {
    local first n=0 net
    first=$((16#$ID % 100))
    while [ $n -lt 100 ]; do
        net=$((100 + (first + n) % 100))
        ip -4 -o addr show | grep -q "inet 10\.$net\." || break
        n=$((n + 1))
    done
    [ $n -lt 100 ] || die "no free 10.100-199.0.0/16 address range for a test engine"
    echo "$net"
}

write_conf() {
    local live=false filter=false word
    for word in "$@"; do
        case $word in
            --live-restore) live=true ;;
            --iptables) filter=true ;;
            *) usage ;;
        esac
    done
    local net
    net=$(sed -n 's/^NET=//p' "$CONF" 2>/dev/null || true)
    if [ -z "$net" ] || ! ip link show "$BRIDGE" >/dev/null 2>&1; then net=$(choose_range); fi
    printf 'NET=%s\nLIVE_RESTORE=%s\nIPTABLES=%s\n' "$net" "$live" "$filter" >"$CONF"
}

read_conf() {
    [ -r "$CONF" ] || die "no test engine was started in $DIR"
    # shellcheck disable=SC1090
    . "$CONF"
    RANGE=10.$NET.0.0/16
}

filter_rule() { iptables -w "$@" -m comment --comment "$COMMENT"; }

make_bridge() {
    if ! ip link show "$BRIDGE" >/dev/null 2>&1; then
        ip link add "$BRIDGE" type bridge
        ip addr add "10.$NET.0.1/24" dev "$BRIDGE"
    fi
    ip link set "$BRIDGE" up
    has iptables || return 0
    drop_rules
    filter_rule -t nat -A POSTROUTING -s "$RANGE" ! -d "$RANGE" -j MASQUERADE || true
    filter_rule -I FORWARD -s "$RANGE" ! -d "$RANGE" -j ACCEPT || true
    filter_rule -I FORWARD ! -s "$RANGE" -d "$RANGE" -j ACCEPT || true
}

drop_rules() {
    local table rule
    has iptables || return 0
    for table in nat filter; do
        { iptables -w -t "$table" -S 2>/dev/null | grep -F -- "--comment $COMMENT" || true; } |
            while read -r rule; do
                # shellcheck disable=SC2086  # the rule is a list of words, none of them quoted
                iptables -w -t "$table" -D ${rule#-A } || true
            done
    done
}

write_hook() {
    mkdir -p "$DIR/bin"
    cat >"$DIR/bin/nvidia-container-runtime-hook" <<'HOOK'
#!/bin/sh
# Stands in for NVIDIA's hook: reads the container's state, changes nothing.
cat >/dev/null
exit 0
HOOK
    chmod 755 "$DIR/bin/nvidia-container-runtime-hook"
}

start_containerd() {
    containerd_runs && return 0
    # A containerd of its own: an engine that finds the system's would share its containers.
    cat >"$DIR/containerd.toml" <<TOML
version = 2
root = "$DIR/containerd"
state = "$RUN/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$CONTAINERD_SOCK"
[debug]
  level = "warn"
TOML
    rm -f "$DIR/containerd.pid" "$CONTAINERD_SOCK"
    PATH=$DIR/bin:$PATH start_detached "$DIR/containerd.pid" "$DIR/containerd.log" \
        containerd --config "$DIR/containerd.toml" --address "$CONTAINERD_SOCK"
    wait_for 20 test -S "$CONTAINERD_SOCK" || die "containerd did not start; see $DIR/containerd.log"
}

start_dockerd() {
    dockerd_runs && return 0
    rm -f "$DIR/dockerd.pid" "$DIR/docker.pid" "$SOCKET"
    PATH=$DIR/bin:$PATH start_detached "$DIR/dockerd.pid" "$DIR/dockerd.log" \
        dockerd --config-file="$DIR/daemon.json" --data-root="$DIR/data" --exec-root="$RUN/docker" \
        --pidfile="$DIR/docker.pid" --host="unix://$SOCKET" --containerd="$CONTAINERD_SOCK" \
        --bridge="$BRIDGE" --default-address-pool="base=10.$NET.128.0/17,size=27" \
        --iptables="$IPTABLES" --ip6tables=false --ip-masq="$IPTABLES" \
        --live-restore="$LIVE_RESTORE" --shutdown-timeout=5 --max-concurrent-downloads=3
    if ! wait_for 60 answers; then
        tail -n 5 "$DIR/dockerd.log" >&2
        die "the test engine did not start; see $DIR/dockerd.log"
    fi
}

up() {
    read_conf
    mkdir -p "$RUN"
    [ -s "$DIR/daemon.json" ] || echo '{}' >"$DIR/daemon.json"
    write_hook
    make_bridge
    start_containerd
    start_dockerd
}

down() {
    end_pid "$(dockerd_pid)" "--data-root=$DIR/data" 30
    rm -f "$DIR/dockerd.pid"
}

children_of() { ps -o pid= --ppid "$1" 2>/dev/null || true; }

# The shims are told apart by the address of this rig's containerd.
end_shims() {
    local shim child
    for shim in $(pgrep -f -- "containerd-shim.* -address $CONTAINERD_SOCK" || true); do
        for child in $(children_of "$shim"); do kill -KILL "$child" 2>/dev/null || true; done
    done
    # Without their containerd the shims would wait for ever.
    sleep 0.2
    for shim in $(pgrep -f -- "containerd-shim.* -address $CONTAINERD_SOCK" || true); do
        kill -KILL "$shim" 2>/dev/null || true
    done
}

unmount_all() {
    local place
    awk -v a="$DIR/" -v b="$RUN/" 'index($5, a) == 1 || index($5, b) == 1 { print $5 }' \
        /proc/self/mountinfo | sort -r | while read -r place; do
        umount -l "$place" 2>/dev/null || true
    done
}

# The engine's networks are bridges br-<start of the network's id>, whatever addresses they have; this
# engine's own ids stand in its network store, those of other engines do not.
drop_bridges() {
    local link store=$DIR/data/network/files/local-kv.db
    for link in $(ip -o link show type bridge | sed -n 's/^[0-9]*: \(br-[0-9a-f]\{12\}\):.*/\1/p'); do
        if grep -qaF -- "${link#br-}" "$store" 2>/dev/null; then ip link delete "$link" || true; fi
    done
    ip link delete "$BRIDGE" 2>/dev/null || true
}

stop() {
    [ -r "$CONF" ] || return 0
    read_conf
    end_pid "$(dockerd_pid)" "--data-root=$DIR/data" 30
    end_shims
    end_pid "$(containerd_pid)" "$CONTAINERD_SOCK" 10
    unmount_all
    drop_bridges
    drop_rules
    rm -rf "$RUN"
    rm -f "$DIR"/*.pid "$SOCKET"
}

needs() {
    is_root || die "the test engine needs root"
    local missing=()
    has dockerd || missing+=(docker.io)
    has containerd || missing+=(containerd)
    has docker || { apt_has docker-cli && missing+=(docker-cli) || missing+=(docker.io); }
    has iptables || missing+=(iptables)
    has ip || missing+=(iproute2)
    has curl || missing+=(curl)
    has pgrep || missing+=(procps)
    [ ${#missing[@]} -eq 0 ] || apt_install_idle "${missing[@]}"
}

case $VERB in
    env) ;;
    start)
        needs
        if dockerd_runs && answers >/dev/null 2>&1; then
            read_conf
        else
            # One at a time, or two could choose the same addresses.
            exec 9>/run/ds01-rigs.lock
            flock 9
            write_conf "$@"
            up
            exec 9>&-
        fi
        say "test engine $(docker -H "unix://$SOCKET" version -f '{{.Server.Version}}') at unix://$SOCKET"
        ;;
    up) up ;;
    down) down ;;
    restart)
        down
        up
        ;;
    stop) stop ;;
    wipe)
        stop
        rm -rf "$DIR"
        ;;
    *) usage ;;
esac
case $VERB in
    start | up | restart | env)
        [ -n "${NET:-}" ] || read_conf
        # Two engines must not give out the same addresses: the portal's networks here lie in a part
        # of this rig's range that the engine itself does not touch.
        printf 'DOCKER_HOST=unix://%s\nDS01_NETWORK_RANGE=10.%s.64.0/18\n' "$SOCKET" "$NET"
        ;;
esac
