# The rigs that tests and benchmarks stand on: a private engine with images, PostgreSQL, a registry,
# a browser. Sourced after lib.sh by test.sh and bench.sh.
# shellcheck shell=bash

# start_rigs NAME: everything in a new folder of var/rigs, its addresses in the environment, its end
# bound to the end of the calling script.
start_rigs() {
    is_root || die "the test rigs need root: a private Docker Engine is started"
    mkdir -p "$VAR/rigs" "$VAR/log"
    RIGS=$(mktemp -d "$VAR/rigs/$1.XXXX")
    # The server of PostgreSQL runs as a user of its own, who must get at its folder.
    chmod 755 "$RIGS"
    echo $$ >"$RIGS/owner"
    trap stop_rigs EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    compiler
    # Taken as a whole first: a rig that does not start ends the run.
    local engine browser postgres registry
    engine=$("$DEPLOY/test_engine.sh" start "$RIGS/engine" --live-restore)
    # The browser's portal has an engine of its own: it would adopt what other suites launch.
    browser=$("$DEPLOY/test_engine.sh" start "$RIGS/browser" --live-restore)
    postgres=$("$DEPLOY/postgres.sh" start "$RIGS/db")
    registry=$("$DEPLOY/registry.sh" start "$RIGS/registry")
    DS01_TEST_CHROMIUM=$("$DEPLOY/chromium.sh" ensure)
    DOCKER_HOST=$(sed -n 's/^DOCKER_HOST=//p' <<<"$engine")
    DS01_NETWORK_RANGE=$(sed -n 's/^DS01_NETWORK_RANGE=//p' <<<"$engine")
    DS01_TEST_DOCKER_HOST=$DOCKER_HOST
    BROWSER_DOCKER_HOST=$(sed -n 's/^DOCKER_HOST=//p' <<<"$browser")
    BROWSER_NETWORK_RANGE=$(sed -n 's/^DS01_NETWORK_RANGE=//p' <<<"$browser")
    DS01_TEST_ENGINE_DIR=$RIGS/engine
    DS01_TEST_DATABASE_URL=${postgres#DATABASE_URL=}
    DS01_TEST_REGISTRY=${registry#REGISTRY=}
    # The machine's own engine is out of reach from here on, whatever a test does.
    export DOCKER_HOST DS01_NETWORK_RANGE DS01_TEST_CHROMIUM DS01_TEST_DOCKER_HOST \
        DS01_TEST_ENGINE_DIR DS01_TEST_DATABASE_URL DS01_TEST_REGISTRY
    "$DEPLOY/demo_image.sh" all
    DOCKER_HOST=$BROWSER_DOCKER_HOST "$DEPLOY/demo_image.sh" all
}

# The stand-in for NVIDIA's library is compiled by the tests.
compiler() {
    if ! has gcc || ! [ -e /usr/include/stdio.h ]; then
        need_root "a C compiler" gcc libc6-dev
        apt_install gcc libc6-dev
    fi
}

stop_rigs() {
    local rc=$?
    trap '' INT TERM HUP
    trap - EXIT
    end_rig "$RIGS" || true
    exit $rc
}

# end_rig DIR: stop what runs in it, delete it.
end_rig() {
    [ ! -e "$1/engine/engine.conf" ] || "$DEPLOY/test_engine.sh" wipe "$1/engine"
    [ ! -e "$1/browser/engine.conf" ] || "$DEPLOY/test_engine.sh" wipe "$1/browser"
    [ ! -e "$1/db/postgres.conf" ] || "$DEPLOY/postgres.sh" stop "$1/db"
    [ ! -e "$1/registry/registry.yml" ] || "$DEPLOY/registry.sh" stop "$1/registry"
    [ ! -e "$1/engine.conf" ] || "$DEPLOY/test_engine.sh" stop "$1"
    rm -rf "$1"
}
