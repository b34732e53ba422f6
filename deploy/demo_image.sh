#!/usr/bin/env bash
# Make small real images from the distribution's own packages, for machines that reach no hub.
#
#   demo_image.sh [demo|tiny|all]      with DOCKER_HOST naming the engine
#   demo_image.sh has                  succeed when the demo image is there and up to date
#
# ds01/demo-python:1   bash, python3 and pip on a minimal system (debootstrap); custom images build on it
# ds01/tiny:1          busybox alone, 2 MB, for tests
#
# Nothing happens for an image that exists, unless an earlier edition of this script made it. The
# archives stay in var/cache, so another engine imports without making them again.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

CACHE=$VAR/cache
DEMO=ds01/demo-python:1
TINY=ds01/tiny:1
# Counts what is in the images; an image or archive of another edition is made anew.
EDITION=2

have_image() {
    [ "$(docker image inspect -f '{{index .Config.Labels "ds01.demo"}}' "$1" 2>/dev/null)" = $EDITION ]
}

# The first package source of this release: "address suite components keyring".
package_source() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
    # shellcheck disable=SC2016  # apt's own placeholders
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(CREATED_BY) $(SIGNED_BY)' |
        awk -v c="$codename" '$2 == c && $4 == "Packages" && !seen[$3]++ {
            if (!uri) { uri = $1; key = $5 }
            if ($1 == uri) parts = parts (parts ? "," : "") $3
        } END { if (uri) print uri, c, parts, key }'
}

make_demo_archive() {
    local archive=$1 work uri suite parts key proxy options
    is_root || die "making the demo image needs root (debootstrap)"
    has debootstrap || apt_install debootstrap
    read -r uri suite parts key <<<"$(package_source)"
    [ -n "${uri:-}" ] || die "no package source of this release found in /etc/apt"
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    # debootstrap fetches with wget, which reads the proxy from here.
    if [ -n "${proxy:-}" ]; then export http_proxy=$proxy https_proxy=${https_proxy:-$proxy}; fi
    options=(--variant=minbase "--include=bash,python3,python3-pip,procps" "--components=$parts")
    if [ -n "${key:-}" ] && [ -r "$key" ]; then options+=("--keyring=$key"); fi
    work=$(mktemp -d "$CACHE/demo.XXXXXX")
    # shellcheck disable=SC2064  # the folder of now, not of later
    trap "rm -rf '$work'" EXIT
    say "making $DEMO from $uri $suite (about half a minute; log: $VAR/log/debootstrap.log)"
    chmod 755 "$work"
    debootstrap "${options[@]}" "$suite" "$work" "$uri" >"$VAR/log/debootstrap.log" 2>&1 </dev/null ||
        die "debootstrap failed; see the end of $VAR/log/debootstrap.log"
    # Compiled modules stay where pip looks: each build step would compile and keep them in its layer.
    find "$work/usr" -xdev -name __pycache__ -type d -prune ! -path '*/dist-packages/pip/*' \
        ! -path '*/lib/python3.*/*' ! -path '*/_distutils_hack/*' -exec rm -rf {} +
    rm -rf "$work"/usr/lib/python3.*/{test,idlelib,lib2to3/tests,turtledemo,pydoc_data,config-*}
    rm -rf "$work"/usr/share/{doc,man,info,locale,lintian,doc-base,bug,linda}/* \
        "$work"/var/cache/{apt,debconf,ldconfig}/* "$work"/var/lib/apt/lists/* "$work"/var/log/* \
        "$work"/usr/lib/*-linux-gnu/gconv/*
    rm -f "$work"/etc/{machine-id,hostname,resolv.conf} "$work"/var/lib/dpkg/*-old
    : >"$work/etc/hostname"
    tar -C "$work" --numeric-owner --one-file-system --exclude='./dev/*' --exclude='./proc/*' \
        --exclude='./sys/*' -cf "$archive.part" .
    mv "$archive.part" "$archive"
    rm -rf "$work"
    trap - EXIT
}

make_tiny_archive() {
    local archive=$1 work applet busybox
    busybox=$(command -v busybox || true)
    if [ -z "$busybox" ] || ! is_static "$busybox"; then
        need_root busybox busybox-static
        apt_install busybox-static
        busybox=$(command -v busybox)
    fi
    work=$(mktemp -d "$CACHE/tiny.XXXXXX")
    mkdir -p "$work"/{bin,etc,home,proc,root,sys,tmp,dev,usr/bin,var}
    chmod 755 "$work"
    chmod 1777 "$work/tmp"
    cp "$busybox" "$work/bin/busybox"
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$work/bin/$applet"
    done
    ln -s ../../bin/env "$work/usr/bin/env"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$work/etc/passwd"
    echo 'root:x:0:' >"$work/etc/group"
    tar -C "$work" --numeric-owner --owner=0 --group=0 -cf "$archive.part" .
    mv "$archive.part" "$archive"
    rm -rf "$work"
}

is_static() { ! ldd "$1" >/dev/null 2>&1; }

import() {
    local archive=$1 tag=$2 old
    shift 2
    old=$(docker image inspect -f '{{.Id}}' "$tag" 2>/dev/null || true)
    docker import "$@" --change "LABEL ds01.demo=$EDITION" --change 'ENV LANG=C.UTF-8' "$archive" "$tag" \
        >/dev/null
    # One that containers use stays; it has lost its name.
    [ -z "$old" ] || docker image rm "$old" >/dev/null 2>&1 || true
    say "$tag is ready ($(docker image inspect -f '{{.Size}}' "$tag" | awk '{ printf "%d MB", $1 / 1e6 }'))"
}

# one TAG NAME SHELL: the image, from its archive, from its packages.
one() {
    local tag=$1 name=$2 shell=$3 archive
    have_image "$tag" && return 0
    archive=$CACHE/$name$EDITION-$(. /etc/os-release && echo "${ID}-${VERSION_ID:-x}")-$(uname -m).tar
    exec 9>"$CACHE/.$name.lock"
    flock 9
    [ -s "$archive" ] || "make_${name}_archive" "$archive"
    exec 9>&-
    find "$CACHE" -maxdepth 1 -name "$name*-*.tar" ! -path "$archive" -delete
    import "$archive" "$tag" --change "CMD [\"$shell\"]"
}

has docker || die "the docker command is missing; run deploy/engine.sh ensure"
docker version >/dev/null 2>&1 || die "no Docker Engine answers at ${DOCKER_HOST:-the default socket}"
mkdir -p "$CACHE" "$VAR/log"
case ${1:-demo} in
    demo) one $DEMO demo bash ;;
    has) have_image $DEMO ;;
    tiny) one $TINY tiny sh ;;
    all)
        one $TINY tiny sh
        one $DEMO demo bash
        ;;
    *) die "usage: demo_image.sh [demo|tiny|all|has]" ;;
esac
