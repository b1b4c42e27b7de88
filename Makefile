# The targets are few on purpose; `make` lists them.

FUZZTIME ?= 20000x
DURATION ?= 30m
SCENARIO ?= smoke
ARGS ?=
SEED ?= 0

.PHONY: help check test check-defects check-long load load-smoke test-clients profile swarm peers fuzz-api perf-api limits plots bench services services-stop run notices

help: ## list the targets
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## format, vet, staticcheck, shellcheck, docker-compose.yml, Dockerfile, licences of libraries
	@scripts/gofmt.sh
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	cd tools && go vet ./... && go test -count=1 ./...
	cd perf/peers && go vet ./... && go test -count=1 ./...
	cd perf/plots && go vet ./... && go test -count=1 ./...
	@scripts/shellcheck.sh

test: services ## all tests against real servers with the race detector, those of allocations without, short fuzzing
	set -a && . .services/env && EVENTSTREAM_TEST_SERVICES=required && \
		go test -race -count=1 -p 3 -timeout 30m ./... && \
		go test -count=1 -run 'Alloc|Growth' ./... && \
		FUZZTIME=$(FUZZTIME) scripts/fuzz.sh
	go build -race -o .services/bin/check/ . ./cmd/eventstream-check
	.services/bin/check/eventstream-check --seed 1 --kafka-secured --duration 60s --clients 100 --log-level error
	.services/bin/check/eventstream-check --seed 306 --mapped --duration 75s --clients 100 --resume-window 5s --lane-retention 10s --log-level error
	$(MAKE) check-defects
	$(MAKE) test-clients
	@if [ "$$(uname)" = Linux ] && command -v redis-server >/dev/null; then $(MAKE) load-smoke; \
		else echo "load-smoke skipped: it needs Linux and redis-server"; fi

test-clients: ## the clients in TypeScript and Python: built, installed, and tried with the conformance kit, eventstream dev, and Chromium
	@scripts/clients.sh

check-defects: services ## show that eventstream-check, and the model test, catch each deliberate defect
	set -a && . .services/env && EVENTSTREAM_TEST_SERVICES=required && \
		go test -count=1 -p 1 -tags defects -run 'TestDefects|TestModelCatchesDefects' -timeout 15m ./gateway ./cmd/eventstream-check

check-long: services ## eventstream-check for DURATION=30m, with SEED= for a certain one
	go build -o .services/bin/check/ . ./cmd/eventstream-check
	.services/bin/check/eventstream-check --seed $(SEED) --duration $(DURATION)

load: services ## k6: SCENARIO=smoke, cliff, ramp, fanout, personal, reconnect-storm, slow-consumers, soak, api; ARGS=--help
	@scripts/k6.sh
	go build -o .services/bin/eventstream-load .
	set -a && . .services/env && go run ./perf/load --scenario $(SCENARIO) $(ARGS)

load-smoke: ## the shortest of them, in CI
	@$(MAKE) load SCENARIO=smoke

profile: ## profiles of our processes under SCENARIO=, with flame graphs, and what changed since perf/profiles
	@$(MAKE) load SCENARIO=$(SCENARIO) ARGS="--profile $(ARGS)"

peers: services ## ours, gws, coder/websocket and centrifuge holding the same sockets, in one run; ARGS="--sockets 10000 --each"
	go build -o .services/bin/eventstream-load .
	cd perf/peers && go build -o ../../.services/bin/sockets ./sockets
	set -a && . .services/env && go run ./perf/swarm --server ours,gws,coder,centrifuge $(ARGS)

swarm: services ## many thousand sockets, every delivery checked; ARGS="--sockets 19000 --each --rate 5000"
	go build -o .services/bin/eventstream-load .
	set -a && . .services/env && go run ./perf/swarm $(ARGS)

fuzz-api: ## requests made of openapi.json, by Schemathesis, against eventstream dev; ARGS="--max-time 600"
	@scripts/schemathesis.sh $(ARGS)

perf-api: services ## the filter API beside net/http and pgx alone: requests a second, CPU per request; ARGS="--rounds 5"
	go build -o .services/bin/eventstream-load .
	set -a && . .services/env && go run ./perf/api $(ARGS)

limits: services ## Kafka's own producer and consumer, bare XADD and XREAD, and ours beside them, in one run; ARGS="--events 1000000"
	go build -o .services/bin/eventstream-load .
	set -a && . .services/env && go run ./perf/limits --java "$$(scripts/kafka-tools.sh)" $(ARGS)

plots: ## draw the SVGs of perf/RESULTS.md from its tables
	cd perf/plots && go run . ../RESULTS.md

notices: ## THIRD_PARTY_NOTICES, after a library was added, changed or dropped
	cd tools && go run ./notices

bench: ## all benchmarks
	go test -run '^$$' -bench . ./...

services: ## install (Debian) and start Kafka, Redis and PostgreSQL in .services
	@scripts/services.sh start

services-stop: ## stop them; their data stays
	@scripts/services.sh stop

run: ## everything in one process, with nothing to install
	go run . dev
