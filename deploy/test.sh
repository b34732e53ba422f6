#!/usr/bin/env bash
# Run the test suites on real rigs: a private Docker Engine, PostgreSQL, a registry, Chromium, all
# installed or found here and stopped at the end.
#
#   test.sh [SUITE…]      all suites, or some of: units units-pg engine races outage browser
#
# units-pg is the unit tests that use the database once more, on PostgreSQL.
#
# Suites run in lanes beside each other: much of their time is waiting for Docker or a clock.
# The last line is "N passed, N failed". What was skipped, a suite without a test and a suite that
# broke off count as failed: nothing goes missing silently. PYTEST_ARGS adds arguments for pytest.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=deploy/rigs.sh
. "$DEPLOY/rigs.sh"
cd "$ROOT"

SUITES=("$@")
[ $# -gt 0 ] || SUITES=(units units-pg engine races outage browser)
for suite in "${SUITES[@]}"; do
    case $suite in
        units | units-pg | engine | races | outage | browser) ;;
        *) die "no suite named $suite; there are: units units-pg engine races outage browser" ;;
    esac
done

BEGUN=$(now)
REPORTS=$VAR/test
FAILED=0
PASSED=0

# run_suite NAME: pytest with the suite's marker and database, its counts into a file. Runs in a
# subshell of its own, beside other suites.
run_suite() {
    local name=$1 start report=$REPORTS/$1.xml marker rc=0 counts extra=() more=()
    case $name in
        units*) marker='not engine and not race and not outage and not browser' ;;
        engine) marker='engine and not outage and not browser' ;;
        races) marker='race' ;;
        *) marker=$name ;;
    esac
    case $name in
        *-pg)
            export DATABASE_URL=$DS01_TEST_DATABASE_URL
            extra+=(--database-only)
            ;;
        *) export DATABASE_URL=sqlite:///$RIGS/$name.sqlite3 ;;
    esac
    if [ "$name" = browser ]; then
        export DS01_TEST_DOCKER_HOST=$BROWSER_DOCKER_HOST DOCKER_HOST=$BROWSER_DOCKER_HOST
        export DS01_NETWORK_RANGE=$BROWSER_NETWORK_RANGE
    fi
    read -ra more <<<"${PYTEST_ARGS:-}"
    rm -f "$report"
    start=$(now)
    say "suite $name begins"
    .venv/bin/python -m pytest -q -m "$marker" --junitxml="$report" -o junit_family=xunit2 \
        --basetemp "$RIGS/tmp-$name" "${extra[@]}" "${more[@]}" </dev/null >"$REPORTS/$name.log" 2>&1 || rc=$?
    counts=$("$DEPLOY/junit_counts.py" "$report" "$rc" 2>>"$REPORTS/$name.log")
    echo "$counts" >"$REPORTS/$name.counts"
    printf '%-10s %6s s   %5d passed %5d failed\n' "$name" "$(seconds_since "$start")" "${counts% *}" "${counts#* }" \
        >"$REPORTS/$name.line"
    # A suite's own words come in one piece, when it has ended.
    printf '\n--- %s\n' "$name"
    if [ "$rc" -eq 0 ]; then tail -n 6 "$REPORTS/$name.log"; else tail -n 120 "$REPORTS/$name.log"; fi
}

# run_lane SUITE…: those of them that were asked for, one after the other.
run_lane() {
    local suite
    for suite in "$@"; do
        case " ${SUITES[*]} " in *" $suite "*) run_suite "$suite" ;; esac
    done
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

rm -f "$REPORTS"/*.counts "$REPORTS"/*.line
run_lane units units-pg &
run_lane engine &
run_lane outage browser races &
wait

printf '\n'
for suite in "${SUITES[@]}"; do
    if [ -s "$REPORTS/$suite.counts" ]; then
        read -r passed failed <"$REPORTS/$suite.counts"
        cat "$REPORTS/$suite.line"
    else
        passed=0 failed=1
        echo "$suite left no result"
    fi
    PASSED=$((PASSED + passed))
    FAILED=$((FAILED + failed))
done
printf 'all with rigs %s s\n' "$(seconds_since "$BEGUN")"
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" -eq 0 ]
