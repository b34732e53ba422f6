#!/usr/bin/env bash
# A private PostgreSQL for tests and benchmarks: fast and forgetful, never for real data.
#
#   postgres.sh start DIR    start (or answer that it runs), print DATABASE_URL=…
#   postgres.sh url DIR      print the address alone
#   postgres.sh stop DIR     stop it and delete its data
#
# As root it runs as the user postgres, because the server refuses root; otherwise as who asks.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() { die "usage: postgres.sh start|url|stop DIR"; }

[ $# -eq 2 ] || usage
VERB=$1
DIR=$(absolute "$2")
CONF=$DIR/postgres.conf

server_bin() {
    local place
    for place in $(find /usr/lib/postgresql -maxdepth 3 -name initdb -path '*/bin/initdb' 2>/dev/null | sort -rV) \
        "$(command -v initdb 2>/dev/null || true)"; do
        [ -n "$place" ] || continue
        place=$(dirname "$(readlink -f "$place")")
        if [ -x "$place/postgres" ] && [ -x "$place/pg_ctl" ]; then
            echo "$place"
            return 0
        fi
    done
    return 1
}

# The package would otherwise make and start a cluster on the machine's usual port.
install_server() {
    local conf=/etc/postgresql-common/createcluster.conf
    need_root PostgreSQL postgresql
    apt_install_idle postgresql-common
    [ ! -e $conf ] || cp -a $conf $conf.ds01
    echo 'create_main_cluster = false' >>$conf
    apt_install_idle postgresql
    if [ -e $conf.ds01 ]; then mv $conf.ds01 $conf; fi
}

as_server() { if is_root; then runuser -u postgres -- "$@"; else "$@"; fi; }

# Where the server's user may go; a checkout in a closed home is not among those places.
choose_home() {
    local home=$DIR/postgres
    if is_root && ! as_server test -x "$DIR"; then home=/var/tmp/ds01-pg-$(short_id "$DIR"); fi
    # A unix socket's address ends at 107 characters.
    [ ${#home} -le 80 ] || home=/var/tmp/ds01-pg-$(short_id "$DIR")
    echo "$home"
}

read_conf() {
    [ -r "$CONF" ] || return 1
    # shellcheck disable=SC1090
    . "$CONF"
}

runs() { [ -n "${HOME_DIR:-}" ] && is_ours "$(head -n1 "$HOME_DIR/data/postmaster.pid" 2>/dev/null)" "$HOME_DIR/data"; }

url() { echo "postgres://ds01:$PASSWORD@127.0.0.1:$PORT/ds01"; }

make_cluster() {
    HOME_DIR=$(choose_home)
    PASSWORD=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
    rm -rf "$HOME_DIR"
    mkdir -p "$HOME_DIR"
    chmod 700 "$HOME_DIR"
    printf '%s\n' "$PASSWORD" >"$HOME_DIR/password"
    if is_root; then chown -R postgres: "$HOME_DIR"; fi
    (cd "$HOME_DIR" && as_server "$BIN/initdb" -D "$HOME_DIR/data" -U ds01 --pwfile="$HOME_DIR/password" \
        -A scram-sha-256 -E UTF8 --locale=C.UTF-8 --no-sync) >"$DIR/postgres.log" 2>&1 ||
        die "initdb failed; see $DIR/postgres.log"
}

start() {
    BIN=$(server_bin) || {
        install_server
        BIN=$(server_bin) || die "PostgreSQL was installed but its programs were not found"
    }
    if read_conf && runs; then return 0; fi
    make_cluster
    PORT=$(free_port)
    # Handed to pg_ctl as one string, hence no spaces in any value.
    local options="-p $PORT -c listen_addresses=127.0.0.1 -k $HOME_DIR -c fsync=off"
    options="$options -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"
    options="$options -c shared_buffers=64MB -c jit=off -c timezone=UTC"
    (cd "$HOME_DIR" && as_server "$BIN/pg_ctl" -D "$HOME_DIR/data" -l "$HOME_DIR/log" -w -t 30 -o "$options" start) \
        >>"$DIR/postgres.log" 2>&1 </dev/null || die "PostgreSQL did not start; see $HOME_DIR/log"
    (umask 077 && printf 'HOME_DIR=%q\nPORT=%s\nPASSWORD=%s\nBIN=%q\n' "$HOME_DIR" "$PORT" "$PASSWORD" "$BIN" >"$CONF")
    (cd "$HOME_DIR" && PGPASSWORD=$PASSWORD as_server "$BIN/psql" -h "$HOME_DIR" -p "$PORT" -U ds01 -d postgres \
        -qc 'CREATE DATABASE ds01') >>"$DIR/postgres.log" 2>&1 || die "no database made; see $DIR/postgres.log"
}

stop() {
    read_conf || return 0
    if runs; then
        (cd "$HOME_DIR" && as_server "$BIN/pg_ctl" -D "$HOME_DIR/data" -m immediate -w -t 20 stop) >/dev/null 2>&1 ||
            die "PostgreSQL in $HOME_DIR does not stop"
    fi
    rm -rf "$HOME_DIR"
    rm -f "$CONF"
}

case $VERB in
    start)
        start
        say "PostgreSQL $("$BIN/postgres" --version | awk '{ print $3 }') at 127.0.0.1:$PORT"
        echo "DATABASE_URL=$(url)"
        ;;
    url)
        read_conf || die "no PostgreSQL was started in $DIR"
        url
        ;;
    stop) stop ;;
    *) usage ;;
esac
