#!/usr/bin/env bash
# chromium.sh ensure: find or install the distribution's Chromium and a font for the browser tests,
# and print the browser's path. DS01_TEST_CHROMIUM names another one.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ "${1:-}" = ensure ] || die "usage: chromium.sh ensure"

# Ubuntu's chromium-browser package is a snap, which cannot run headless for root; a browser
# installed from elsewhere serves as well.
find_browser() {
    local name
    if [ -n "${DS01_TEST_CHROMIUM:-}" ]; then
        [ -x "$DS01_TEST_CHROMIUM" ] || die "DS01_TEST_CHROMIUM=$DS01_TEST_CHROMIUM cannot be run"
        echo "$DS01_TEST_CHROMIUM"
        return 0
    fi
    for name in chromium chromium-browser google-chrome-stable google-chrome; do
        # A snap's launcher is a small script that refuses without its snap.
        if has "$name" && "$name" --version >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

has_font() { has fc-list && [ -n "$(fc-list : family 2>/dev/null | grep -i dejavu || true)" ]; }

wanted=()
find_browser >/dev/null || wanted+=(chromium)
has_font || wanted+=(fontconfig fonts-dejavu-core)
if [ ${#wanted[@]} -gt 0 ]; then
    need_root "a browser or a font for the browser tests" "${wanted[@]}"
    apt_install "${wanted[@]}"
fi
find_browser || die "no Chromium found; install one and name it in DS01_TEST_CHROMIUM"
