#!/usr/bin/env bash
# Run the test suites on real rigs: a private Docker Engine, PostgreSQL, a registry, Chromium, all
# installed or found here and stopped at the end.
#
#   test.sh [SUITE…]      all suites, or some of: units races units-pg races-pg browser
#
# The last line is "N passed, N failed". What was skipped, a suite without a test and a suite that
# broke off count as failed: nothing goes missing silently. PYTEST_ARGS adds arguments for pytest.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=deploy/rigs.sh
. "$DEPLOY/rigs.sh"
cd "$ROOT"

SUITES=("$@")
[ $# -gt 0 ] || SUITES=(units races units-pg races-pg browser)
for suite in "${SUITES[@]}"; do
    case $suite in
        units | races | units-pg | races-pg | browser) ;;
        *) die "no suite named $suite; there are: units races units-pg races-pg browser" ;;
    esac
done

BEGUN=$(now)
REPORTS=$VAR/test
FAILED=0
PASSED=0

# run_suite NAME: pytest with the suite's marker and database, its counts into PASSED and FAILED.
run_suite() {
    local name=$1 start report=$REPORTS/$1.xml marker parallel=() rc=0 counts passed failed extra=()
    case $name in
        units*) marker='not engine and not race and not browser' parallel=(-n 2) ;;
        races*) marker='(engine or race) and not browser' ;;
        browser) marker=browser ;;
    esac
    case $name in
        *-pg) export DATABASE_URL=$DS01_TEST_DATABASE_URL ;;
        *) export DATABASE_URL=sqlite:///$RIGS/$name.sqlite3 ;;
    esac
    read -ra extra <<<"${PYTEST_ARGS:-}"
    rm -f "$report"
    start=$(now)
    printf '\n--- %s\n' "$name"
    .venv/bin/python -m pytest -q -m "$marker" "${parallel[@]}" --junitxml="$report" \
        -o junit_family=xunit2 "${extra[@]}" </dev/null || rc=$?
    counts=$("$DEPLOY/junit_counts.py" "$report" "$rc")
    read -r passed failed <<<"$counts"
    PASSED=$((PASSED + passed))
    FAILED=$((FAILED + failed))
    TIMES+=("$(printf '%-10s %6s s   %5d passed %5d failed' "$name" "$(seconds_since "$start")" "$passed" "$failed")")
}

"$DEPLOY/setup.sh" --dev
mkdir -p "$REPORTS"
start_rigs test
say "rigs ready after $(seconds_since "$BEGUN") s"

# Nothing of the caller's own configuration: tests set what they test.
unset DEBUG SECRET_KEY ALLOWED_HOSTS AIME_CATALOG MLC_ARCH DS01_GPUS DS01_WORKSPACE_ROOT
export DS01_TEST_ARTIFACTS=$REPORTS/screenshots
mkdir -p "$DS01_TEST_ARTIFACTS"
# Playwright keeps an event loop in the test's thread, in which Django would refuse its database.
export DJANGO_ALLOW_ASYNC_UNSAFE=1

TIMES=()
for suite in "${SUITES[@]}"; do run_suite "$suite"; done

printf '\n'
printf '%s\n' "${TIMES[@]}"
printf 'all with rigs %s s\n' "$(seconds_since "$BEGUN")"
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" -eq 0 ]
