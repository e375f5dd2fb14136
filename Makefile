# Freshet. `make help` lists the targets; CONTRIBUTING.md says what each expects.
#
# Nothing global is needed but Go, and Node for the page: Go tools are pinned by
# tools/go.mod and those of tools/lint, tools/api and tools/vuln, Node packages by web/package-lock.json.
# What only the system's package manager can bring (a browser, proxies), `make
# deps` installs, and `make test` where it may; no other target does.

GO      ?= go
NPM     ?= npm
FUZZTIME ?= 20s
# Of `make soak`. The seed chooses the faults; 0: another one each time. With
# KILLS=false the program lives through all of it, so that its memory can be seen.
DURATION ?= 30m
SEED     ?= 0
KILLS    ?= true
# Of `make rolling`.
ROUNDS   ?= 10
# Of `make replicas`.
READS    ?= 1000000
# Packages tested at a time. Each starts a Postgres of its own.
P       ?= 2
# Tests of a package at a time, of those that may be: most of them wait, for a deadline
# or a process, so that there are more of them than cores.
SIDE    ?= 4

TOOL    := $(GO) tool -modfile=tools/go.mod
# With cgo sqlc compiles Postgres' parser in C: over two minutes instead of 40 s.
SQLC    := CGO_ENABLED=0 $(TOOL) sqlc
LINT    := $(GO) tool -modfile=tools/lint/go.mod golangci-lint
BIN     := web/node_modules/.bin
MODULES := web/node_modules/.package-lock.json
PAGE    := web/embed/app/index.html
VALIDATE := .cache/protovalidate/buf/validate/validate.proto
GEN_TMP := .cache/verify
# What the contract looked like when it was last released; `make proto/image` renews it.
IMAGE   := proto/image.binpb
# Paths that make up the module's protos (the copy of validate.proto isn't ours).
PROTOS  := --path proto/freshet --path proto/messages
# Services of somebody else's: their protos are no part of the image.
EXAMPLES := examples/notes examples/tasks
# What `freshet init` writes.
SCAFFOLD := internal/scaffold
# Services for tests.
TESTED  := internal/testkit/boards internal/testkit/orgs

PAGE_SOURCES := $(shell find web/packages web/demo web/package.json -type f -not -path '*/node_modules/*' 2>/dev/null)
HAVE_NODE    := $(shell scripts/have-node.sh && echo yes)

.PHONY: help run cluster build page deps deps/test test test/go test/race test/web test/e2e tutorial next generate verify \
	verify/proto verify/generated verify/sql verify/go verify/api verify/vulnerabilities verify/dashboards proto/image api lint lint/go lint/web docs fmt fuzz bench bench/peers bench/refetch bench/write bench/nodes bench/curves bench/scale check model rolling failover vanish release release/check clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9/]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-12s %s\n", $$1, $$2 }'

run: build ## build page and program, start a private Postgres, serve, print the URL (ARGS=… are serve's flags)
	@exec bin/freshet serve $(ARGS)

cluster: build ## three nodes behind HAProxy, on a private Postgres with a standby; prints one URL (ARGS=… are its flags)
	@exec bin/freshet cluster $(ARGS)

build: page ## build the page and bin/freshet
	$(GO) build -o bin/freshet ./cmd/freshet

# The page is optional: the program serves RPC and stream without it, and the
# placeholder in its place says how to build it. In CI a page is a must.
ifdef HAVE_NODE
page: $(PAGE)
else
page:
	@echo '*** The page is not built: there is no Node.js 20 or later. RPC and stream work without it.' >&2
	@test -z "$$CI"
endif

$(PAGE): $(MODULES) $(PAGE_SOURCES)
	cd web && $(NPM) run build
	@touch $@

# npm ci refuses a lock file that lacks other platforms' optional packages, which
# npm leaves out where the registry at hand doesn't have them; npm install takes
# it, at the same versions.
$(MODULES): web/package-lock.json
	cd web && { $(NPM) ci --silent || $(NPM) install --no-save --no-audit --no-fund; }
	@touch $@

deps: ## install what needs the system's package manager: Postgres' server, chromium, a C compiler, proxies
	@scripts/deps.sh

test: deps/test test/go test/web test/e2e ## set up, then all tests but the race detector's: Go, TypeScript, browser

# After the Node packages: they bring a Postgres where the system has none.
deps/test: $(if $(HAVE_NODE),$(MODULES))
	@scripts/deps.sh --for-tests

# A Go test takes npm's Postgres where the system has none.
test/go test/race: $(if $(HAVE_NODE),$(MODULES))

# Compiled by all cores first: -p, which says how many packages are tested at a time,
# would hold that back as well.
COMPILE := list -export -test -deps ./... > /dev/null

test/go:
	$(GO) $(COMPILE)
	$(GO) test -p $(P) -parallel $(SIDE) -timeout 9m ./...
	cd bench/peers && $(GO) test ./...
	cd internal/depths && $(GO) test ./...
	cd tools/connectsuite && $(GO) test ./...
	cd internal/manifests && $(GO) test -count=1 ./... # its files are outside, where no cache looks
	cd tools/release && $(GO) test -count=1 ./... # as above
	@set -e; for e in $(EXAMPLES); do (cd $$e && $(GO) test ./...); done

test/race: ## the Go tests under the race detector
	CGO_ENABLED=1 $(GO) $(subst list,list -race,$(COMPILE))
	CGO_ENABLED=1 $(GO) test -race -p $(P) -parallel $(SIDE) -timeout 18m ./...
	cd internal/depths && CGO_ENABLED=1 $(GO) test -race ./...
	@set -e; for e in $(EXAMPLES); do (cd $$e && CGO_ENABLED=1 $(GO) test -race ./...); done

# Without Node or a browser the scripts say loudly that nothing ran; in CI that fails.
ifdef HAVE_NODE
test/web: $(MODULES)
test/e2e: build
endif

test/web: ## unit tests of the TypeScript packages
	@scripts/test-web.sh

test/e2e: ## the page in a real browser, against the program as users start it
	@scripts/test-e2e.sh

ifdef HAVE_NODE
tutorial: build
endif

# Part of test/e2e, too.
tutorial: ## follow docs/start.md, from an empty folder to a new table and a live list in a browser, some minutes
	@scripts/test-e2e.sh tutorial

ifdef HAVE_NODE
next: build
endif

# Not among the tests: it installs Next.js, some 390 MB, for this page alone. What it shows of
# hydration, web/e2e/hydration.test.ts shows with React's own rendering in each run.
next: ## a page of Next.js, built and started, in a browser: what changed since it was rendered is read again, a minute or two
	@scripts/next.sh

$(VALIDATE): tools/go.mod
	@$(GO) mod download -modfile=tools/go.mod github.com/bufbuild/protovalidate
	@mkdir -p $(@D)
	@cp -f "$$($(GO) list -m -modfile=tools/go.mod -f '{{.Dir}}' github.com/bufbuild/protovalidate)/proto/protovalidate/buf/validate/validate.proto" $@
	@chmod u+w $@ && touch $@

generate: $(MODULES) $(VALIDATE) ## regenerate the code of proto/ and queries/
	$(BIN)/buf generate
	@set -e; for e in $(EXAMPLES); do $(BIN)/buf generate --template $$e/buf.gen.yaml; done
	$(BIN)/buf generate --template $(SCAFFOLD)/buf.gen.yaml
	@set -e; for e in $(TESTED); do $(BIN)/buf generate --template $$e/buf.gen.yaml; done
	$(SQLC) generate

verify: verify/proto verify/generated verify/sql verify/go verify/api verify/dashboards verify/vulnerabilities ## prove that protos are sound, generated code is current, and nobody's code breaks

verify/proto: $(MODULES) $(VALIDATE)
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code $(PROTOS) --path examples/notes/proto/notes --path examples/tasks/proto/board --path $(SCAFFOLD)/service/proto/tasks
	$(BIN)/buf breaking --against $(IMAGE)

# Into a folder of its own, then compared: a stale file shows as well as a changed one.
verify/generated: $(MODULES) $(VALIDATE)
	@rm -rf $(GEN_TMP)
	$(BIN)/buf generate -o $(GEN_TMP)
	@set -e; for e in $(EXAMPLES); do $(BIN)/buf generate --template $$e/buf.gen.yaml -o $(GEN_TMP); done
	$(BIN)/buf generate --template $(SCAFFOLD)/buf.gen.yaml -o $(GEN_TMP)
	@set -e; for e in $(TESTED); do $(BIN)/buf generate --template $$e/buf.gen.yaml -o $(GEN_TMP); done
	@scripts/diff-generated.sh $(GEN_TMP)

verify/sql:
	$(SQLC) diff
	$(SQLC) vet

verify/go:
	$(GO) mod tidy -diff
	$(GO) mod verify
	$(GO) vet ./...

verify/vulnerabilities: $(if $(HAVE_NODE),$(MODULES))
	@scripts/vulnerabilities.sh

verify/api:
	@scripts/api.sh

# By Grafana's schema. Queries and alerts: `go test ./cmd/freshet -run 'Alerts|Dashboard'`.
verify/dashboards:
	$(GO) -C tools/grafana run . $(CURDIR)/deploy/grafana/freshet.json

# Not part of generate: it accepts every breaking change since the last time.
proto/image: $(MODULES) $(VALIDATE) ## accept the protos as they are as the base of `buf breaking`
	$(BIN)/buf build $(PROTOS) --exclude-source-info -o $(IMAGE)

api: ## accept the exported Go surface as it is as the base of verify/api
	@scripts/api.sh accept

lint: lint/go lint/web docs ## golangci-lint; oxlint and tsc; the links of the documentation

lint/go:
	$(LINT) run --timeout 10m
	cd bench/peers && $(GO) tool -modfile=$(CURDIR)/tools/lint/go.mod golangci-lint run --timeout 10m
	cd internal/manifests && $(GO) tool -modfile=$(CURDIR)/tools/lint/go.mod golangci-lint run --timeout 10m
	cd internal/depths && $(GO) tool -modfile=$(CURDIR)/tools/lint/go.mod golangci-lint run --timeout 10m
	cd tools/connectsuite && $(GO) tool -modfile=$(CURDIR)/tools/lint/go.mod golangci-lint run --timeout 10m
	cd tools/release && $(GO) tool -modfile=$(CURDIR)/tools/lint/go.mod golangci-lint run --timeout 10m
	@set -e; for e in $(EXAMPLES); do cd $(CURDIR)/$$e && $(GO) tool -modfile=$(CURDIR)/tools/lint/go.mod golangci-lint run --timeout 10m; done

lint/web: $(MODULES)
	cd web && $(NPM) run lint && $(NPM) run typecheck

docs: $(MODULES) ## the documentation as a site, in web/site/dist; a link that leads nowhere is an error
	cd web && $(NPM) run docs

fmt: $(MODULES) $(VALIDATE) ## format Go and protos
	$(LINT) fmt
	$(BIN)/buf format -w $(PROTOS) --path examples/notes/proto/notes --path examples/tasks/proto/board --path $(SCAFFOLD)/service/proto/tasks

fuzz: ## run every fuzz target for FUZZTIME (20s)
	@scripts/fuzz.sh $(FUZZTIME)

# The page is left out: no figure depends on it. Results say little unless the
# machine does nothing else meanwhile.
bench: ## latency from commit to notice and to refetched data, two minutes; writes bench/results (ARGS=… are its flags)
	$(GO) build -o bin/freshet ./cmd/freshet
	$(GO) run ./bench/latency $(ARGS)

bench/write: ## what capture costs writers, beside LISTEN/NOTIFY and polling, four minutes; writes bench/results (ARGS=… are its flags)
	$(GO) build -o bin/freshet ./cmd/freshet
	$(GO) run ./bench/write $(ARGS)

# Linux only.
bench/nodes: ## what each further node costs the primary, two minutes; writes bench/results (ARGS=… are its flags)
	$(GO) build -o bin/freshet ./cmd/freshet
	$(GO) run ./bench/nodes $(ARGS)

# Peers from the module proxy, and nginx with nchan if it is installed. Linux only.
bench/peers: ## fan-out beside other servers of event streams, ten minutes; writes bench/results (ARGS=… are its flags)
	cd bench/peers && $(GO) build -o $(CURDIR)/bin/bench-peers . && $(CURDIR)/bin/bench-peers $(ARGS)

# Linux only.
bench/refetch: ## 4,000 clients refetch one read after one write, beside a static handler, a minute; writes bench/results (ARGS=… are its flags)
	$(GO) build -o bin/freshet ./cmd/freshet
	$(GO) run ./bench/refetch $(ARGS)

bench/curves: ## how the cost of the stream grows with connections, topics, rates and throttle, four minutes; writes bench/results (ARGS=… are its flags)
	cd bench/peers && $(GO) build -o $(CURDIR)/bin/bench-peers . && $(CURDIR)/bin/bench-peers curves $(ARGS)

# Linux only where it measures (ARGS=measure).
bench/scale: ## fleets on paper, up to ten million clients, by costs that ARGS=measure measures in five minutes; writes bench/results (ARGS=… are its flags)
	$(GO) build -o bin/freshet ./cmd/freshet
	$(GO) run ./bench/scale $(ARGS)

replicas: ## READS (1000000) reads while a replica's replay is paused and resumed at random: none may see less than it asked for
	$(GO) test ./store -run '^TestReplica_pausedAtRandom$$' -count=1 -v -timeout 0 -replica.reads=$(READS)
	$(GO) test ./server -run '^TestReplicas$$' -count=1 -v -timeout 0 -replica.reads=$(READS)

soak: ## random faults for DURATION (30m) from a SEED; every client must end equal to Postgres
	$(GO) test ./internal/systemtest -run '^TestSoak$$' -count=1 -v -timeout 0 -soak.duration=$(DURATION) -soak.seed=$(SEED) -soak.kills=$(KILLS)

rolling: ## roll a version with another contract out and back ROUNDS times (10) under writes; every commit must be told
	$(GO) test ./store/wal -run '^TestRolling$$' -count=1 -v -timeout 0 -rolling.rounds=$(ROUNDS)
	$(GO) test ./internal/systemtest -run '^TestRolling_programs$$' -count=1 -v -timeout 0 -rolling.rounds=$(ROUNDS)

# Its short form, without Patroni, is among the tests: TestFailover_….
failover: ## a switchover, a crash and a split brain under Patroni, etcd and HAProxy, judged by check, four minutes (ARGS=… are check's flags)
	$(GO) build -o bin/freshet ./cmd/freshet
	@scripts/failover.sh $(ARGS)

vanish: ## a node whose network drops every packet, to Postgres and to its clients, judged by check, four minutes, as root (ARGS=seconds of each)
	$(GO) build -o bin/freshet ./cmd/freshet
	@scripts/vanish.sh $(ARGS)

# Against a server that runs already (make run), or with ARGS='--serve --faults all'
# against one of its own, with --cluster in its place against three nodes.
check: ## check a server: clients, writers, faults, rules G1 to G6 (ARGS=… are its flags: --url, --serve or --cluster, --faults, --duration)
	$(GO) build -o bin/freshet ./cmd/freshet
	@bin/freshet check $(ARGS)

# What the tests do for 80 steps, for 100,000: Go clients and a page of @freshet/query, some
# hours. After a failure give it what it names (ARGS='-families.seed=… -families.steps=…').
model: $(MODULES) ## random schemas of parents and children, random moves: clients show what Postgres holds after each step
	cd web && FAMILIES='-families.steps=100000 -families.batch=1000 $(ARGS)' node_modules/.bin/vitest run --project query packages/query/test/families.test.ts

# The page is part of the program, and the packages are as they are built here.
release: page ## archives, bills of materials, npm packages and checksums of the commit that is checked out, into dist
	$(GO) -C tools/release run . -root $(CURDIR) -out $(CURDIR)/dist $(ARGS)

# In two clones, with what each installs and compiles for itself: some minutes.
release/check: ## build a release of the last commit twice, in two folders with caches of their own; every byte must be the same
	@scripts/release-check.sh

clean: ## remove what make built; the private Postgres' data in .freshet stays
	rm -rf bin dist .cache coverage.out web/embed/app
