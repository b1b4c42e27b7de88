# The targets are few on purpose; `make` lists them.

FUZZTIME ?= 20000x
DURATION ?= 30m
SEED ?= 0

.PHONY: help check test check-defects check-long bench services services-stop run

help: ## list the targets
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## format, vet, staticcheck, shellcheck, docker-compose.yml and Dockerfile
	@scripts/gofmt.sh
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	cd tools && go vet ./... && go test -count=1 ./...
	cd perf/peers && go vet ./... && go test -count=1 ./...
	@scripts/shellcheck.sh

test: services ## all tests against real servers with the race detector, those of allocations without, short fuzzing
	set -a && . .services/env && EVENTSTREAM_TEST_SERVICES=required && \
		go test -race -count=1 -p 2 -timeout 30m ./... && \
		go test -count=1 -run Alloc ./... && \
		FUZZTIME=$(FUZZTIME) scripts/fuzz.sh
	go build -race -o .services/bin/eventstream-check .
	.services/bin/eventstream-check check --seed 1 --duration 60s --clients 100 --log-level error
	$(MAKE) check-defects

check-defects: services ## show that eventstream check catches each deliberate defect
	set -a && . .services/env && EVENTSTREAM_TEST_SERVICES=required && \
		go test -count=1 -tags defects -run TestDefects -timeout 15m ./cmd

check-long: services ## eventstream check for DURATION=30m, with SEED= for a certain one
	go build -o .services/bin/eventstream-check .
	.services/bin/eventstream-check check --seed $(SEED) --duration $(DURATION)

bench: ## all benchmarks
	go test -run '^$$' -bench . ./...

services: ## install (Debian) and start Kafka, Redis and PostgreSQL in .services
	@scripts/services.sh start

services-stop: ## stop them; their data stays
	@scripts/services.sh stop

run: ## everything in one process, with nothing to install
	go run . dev
