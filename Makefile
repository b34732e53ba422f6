# `make` alone lists what there is.
.DEFAULT_GOAL := help
.PHONY: help setup run test check lock bench browser clean-rigs

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  make %-11s %s\n", $$1, $$2 }'

setup: ## install: .venv from the hashed lock
	@deploy/setup.sh

run: ## install and start everything here: engine, database, demo people, web and worker (PORT=8000)
	@deploy/run.sh

test: ## all suites on real rigs: engine, PostgreSQL, Chromium (SUITES="units browser" for some)
	@deploy/test.sh $(SUITES)

check: ## style, types, imports, migrations, settings
	@deploy/check.sh

browser: ## the browser suite alone
	@deploy/test.sh browser

bench: ## measure on real rigs and write a report (ARGS="…" for bench/run.py)
	@deploy/bench.sh $(ARGS)

lock: ## make the hashed requirement files anew (ARGS=--upgrade for newer versions)
	@deploy/lock.sh $(ARGS)

clean-rigs: ## end test rigs that a killed run left in var/rigs
	@deploy/clean_rigs.sh
