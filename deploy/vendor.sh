#!/bin/sh
# Re-make static/vendor/ from the versions and integrity sums in package-lock.json.
# Needs npm (any registry it is configured for); a normal start or test never runs this,
# because the copied files are committed.
#   deploy/vendor.sh           copy again
#   deploy/vendor.sh --check   copy into a temporary folder and compare, change nothing
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
out=$work/vendor

cp "$root/package.json" "$root/package-lock.json" "$work/"
(cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
modules=$work/node_modules

# put PACKAGE FOLDER FILE...: copy files of one package, flat, with its licence.
put() {
    package=$1 folder=$2
    shift 2
    mkdir -p "$out/$folder"
    for file in "$@"; do
        cp "$modules/$package/$file" "$out/$folder/"
    done
    if [ -f "$modules/$package/LICENSE" ]; then
        cp "$modules/$package/LICENSE" "$out/$folder/LICENSE"
    fi
}

put bootstrap bootstrap dist/css/bootstrap.min.css dist/js/bootstrap.bundle.min.js
put bootstrap-icons bootstrap-icons font/bootstrap-icons.min.css
mkdir -p "$out/bootstrap-icons/fonts"
cp "$modules"/bootstrap-icons/font/fonts/bootstrap-icons.woff "$out/bootstrap-icons/fonts/"
cp "$modules"/bootstrap-icons/font/fonts/bootstrap-icons.woff2 "$out/bootstrap-icons/fonts/"
put htmx.org htmx dist/htmx.min.js
put htmx-ext-sse htmx-ext-sse dist/sse.min.js
put @xterm/xterm xterm lib/xterm.js css/xterm.css
put @xterm/addon-fit xterm-addon-fit lib/addon-fit.js
put @xterm/addon-web-links xterm-addon-web-links lib/addon-web-links.js
put uplot uplot dist/uPlot.iife.min.js dist/uPlot.min.css
put @alpinejs/csp alpinejs-csp dist/cdn.min.js
mv "$out/alpinejs-csp/cdn.min.js" "$out/alpinejs-csp/alpine.min.js"

# Two bundles carry other people's code, and one package ships without its licence text.
cp "$modules/@popperjs/core/LICENSE.md" "$out/bootstrap/LICENSE.popper"
cp "$modules/@vue/reactivity/LICENSE" "$out/alpinejs-csp/LICENSE.vue-reactivity"
cat > "$out/alpinejs-csp/LICENSE" <<'LICENCE'
MIT License

Copyright (c) 2019 Caleb Porzio and contributors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
LICENCE

# Source maps are not shipped; a reference to a missing one stops collectstatic's manifest.
find "$out" -type f \( -name '*.js' -o -name '*.css' \) -exec sed -i \
    -e 's|^//# sourceMappingURL=.*$||' -e 's|/\*# sourceMappingURL=[^*]*\*/||' {} +

{
    echo "# Libraries served to the browser"
    echo
    echo "Copied unchanged (source map references removed) by \`deploy/vendor.sh\` from the"
    echo "versions in \`package-lock.json\`. Change nothing here by hand."
    echo
    echo "| package | version | licence |"
    echo "| --- | --- | --- |"
    node -e '
        const lock = require(process.argv[1]);
        for (const name of Object.keys(lock.packages[""].dependencies).sort()) {
            const entry = lock.packages["node_modules/" + name];
            console.log(`| ${name} | ${entry.version} | ${entry.license || "0BSD"} |`);
        }' "$work/package-lock.json"
} > "$out/README.md"

if [ "${1:-}" = "--check" ]; then
    diff -r "$out" "$root/static/vendor" && echo "static/vendor matches package-lock.json"
else
    rm -rf "$root/static/vendor"
    mkdir -p "$root/static"
    cp -R "$out" "$root/static/vendor"
    echo "static/vendor written"
fi
