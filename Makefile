# The commands of this repository; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --warn-undefined-variables
.DEFAULT_GOAL := help

# tool NAME is a development tool at the version that deploy/tools.mod pins.
tool = go tool -modfile=deploy/tools.mod $(1)

# What `decider --version` and `watcher --version` print, and what the watcher
# calls itself at the API server. Kubernetes' own parser reads it, so that it
# has to begin with a version even where no tag exists.
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null || \
	echo "v0.0.0-g$$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)")

# Everything is compiled with the same flags, so that it is compiled once; only
# the race detector needs others, and .ci/test sets them.
export CGO_ENABLED := 0
GOFLAGS ?=
export GOFLAGS += -trimpath
LDFLAGS = -X k8s.io/component-base/version.gitVersion=$(VERSION)

# The race detector is linked by a C compiler; without one the tests run all the
# same, and .ci/test says what was left out.
RACE = $(shell command -v "$$(go env CC)" >/dev/null && echo -race)

# present DIR... are those of the commands that are there, as package paths.
present = $(patsubst %/main.go,./%,$(wildcard $(addsuffix /main.go,$(1))))
PROCESSES := $(call present,decider watcher)
TOOLS := $(call present,deploy/check deploy/demo deploy/bench deploy/chaos)
# The root module and every other: each is vetted and kept tidy.
MODULES := $(dir $(wildcard go.mod decider/*/go.mod deploy/*/go.mod))

.PHONY: help
help: ## Describe every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Compile bin/decider and bin/watcher
	$(if $(PROCESSES),go build -ldflags '$(LDFLAGS)' -o bin/ $(PROCESSES))

.PHONY: tools
tools: ## Compile what runs, checks and asks a local cluster (the first time takes minutes)
	$(if $(TOOLS),go build -o bin/ $(TOOLS))
	cd deploy/local && go build -o ../../bin/local .
	bin/local build --bin bin

.PHONY: upstream
upstream: ## Compile bin/upstream, the decider that answers with kube-scheduler's own plugins
	go -C decider/upstream build -ldflags '$(LDFLAGS)' -o ../../bin/upstream .

# Variables of `make run`, each a flag of bin/demo; see `bin/demo --help`.
ONCE ?=
NODES ?=
PODS ?=
DECIDERS ?=
TIMEOUT ?=
TRACE ?=
TRACE_PODS ?=
CLUSTER ?=
YES ?=
on = $(if $(filter-out 0 false,$(1)),$(2))

.PHONY: run
run: build tools ## Schedule a workload on a local cluster (ONCE NODES PODS DECIDERS TIMEOUT TRACE TRACE_PODS CLUSTER YES)
	bin/demo $(call on,$(ONCE),--once) $(if $(NODES),--nodes '$(NODES)') $(if $(PODS),--pods '$(PODS)') \
		$(if $(DECIDERS),--deciders '$(DECIDERS)') $(if $(TIMEOUT),--timeout '$(TIMEOUT)') $(if $(TRACE),--trace '$(TRACE)') \
		$(if $(TRACE_PODS),--trace-pods '$(TRACE_PODS)') $(if $(CLUSTER),--cluster '$(CLUSTER)') \
		$(call on,$(YES),--yes)

.PHONY: test
test: bin/tally ## Run every test: unit, race, end to end
	RACE='$(RACE)' .ci/test

# What the cases of `make differential` are drawn from, and how many they are.
CASES ?= 2000
SEED ?= 1

.PHONY: differential
differential: ## Compare Berth's answers with kube-scheduler's own on made-up clusters (CASES SEED)
	go -C decider/upstream build -o ../../bin/differential ./differential
	bin/differential --cases '$(CASES)' --seed '$(SEED)'

# Variables of `make bench`, each a flag of bin/bench; see `bin/bench --help`.
WORKLOADS ?=
SYSTEMS ?=
ROUNDS ?=
QUICK ?=

.PHONY: bench
bench: build tools ## Compare Berth with kube-scheduler and with bare binding (WORKLOADS SYSTEMS ROUNDS QUICK)
	bin/bench $(if $(WORKLOADS),--workloads '$(WORKLOADS)') $(if $(SYSTEMS),--systems '$(SYSTEMS)') \
		$(if $(ROUNDS),--rounds '$(ROUNDS)') $(call on,$(QUICK),--quick)

# NODES and PODS as well are flags of these two; see `bin/bench replicas --help` and
# `bin/bench takeover --help`. DECIDERS is how many are compared with one.
aside = $(if $(ROUNDS),--rounds '$(ROUNDS)') $(if $(NODES),--nodes '$(NODES)') $(if $(PODS),--pods '$(PODS)') $(if $(JSON),--json '$(JSON)')
JSON ?=

.PHONY: bench-replicas
bench-replicas: build tools ## Compare four slow deciders with one, and count conflicts (ROUNDS NODES PODS DECIDERS WORKLOADS JSON)
	go build -o bin/ ./deploy/bench/slowdecider
	bin/bench replicas $(aside) $(if $(DECIDERS),--deciders '$(DECIDERS)') $(if $(WORKLOADS),--workloads '$(WORKLOADS)')

.PHONY: bench-takeover
bench-takeover: build tools ## Kill the leader while pods are scheduled, and time the next one (ROUNDS NODES PODS JSON)
	bin/bench takeover $(aside)

# How long `make chaos` breaks things. It draws a seed unless one is given. See
# `bin/chaos --help`.
MINUTES ?=

.PHONY: chaos
chaos: build tools ## Kill processes and cut connections while pods are scheduled, and judge (MINUTES PODS SEED)
	bin/chaos $(if $(MINUTES),--minutes '$(MINUTES)') $(if $(PODS),--pods '$(PODS)') $(if $(filter command environment,$(origin SEED)),--seed '$(SEED)')

# A regular expression of the mutations that `make mutate` tries; all if it is empty.
ONLY ?=

.PHONY: mutate
mutate: ## Break Berth's rules, one line at a time, and see that made-up clusters tell (ONLY)
	go -C decider/upstream run ./mutate --only '$(ONLY)'

# How many decisions the index itself has to make in `make laws`.
DECISIONS ?= 1000000

.PHONY: laws
laws: ## Hold the index to the plain solver over random histories (DECISIONS SEED)
	go test ./decider/internal/index -run TestIndexedEqualsPlain -count 1 -v -timeout 4h -decisions '$(DECISIONS)' -seed '$(SEED)'

# How many seeds `make simulate` tries, and which bug of watcher/simulate/bugs.txt it plants
# first: a number or all.
SEEDS ?= 20000
BUG ?=

.PHONY: simulate
simulate: ## Run the watcher's driver through made-up histories and hold it to its laws (SEEDS BUG)
	go build -o bin/simulate ./watcher/simulate
	bin/simulate --seeds '$(SEEDS)' $(if $(BUG),--bug '$(BUG)')

.PHONY: fuzz
fuzz: bin/tally ## Fuzz every target (FUZZTIME, such as 100000x or 1m)
	.ci/fuzz

# The command line of bin/bench-decide, such as 'million' or '--nodes 1000,5000'; see its
# --help.
ARGS ?=

.PHONY: bench-decide
bench-decide: build upstream ## Measure what a decision costs on 1,000 to 1,000,000 nodes (ARGS)
	go build -o bin/bench-decide ./deploy/bench/decide
	bin/bench-decide $(ARGS)

.PHONY: check
check: check/format check/vet check/lint check/proto check/generate check/tidy check/rules check/vulnerabilities ## Check everything that needs no test run

.PHONY: check/format
check/format:
	@bad=$$(gofmt -l $$(find . -name '*.go' -not -path './bin/*' -not -path './.*')); \
	if [[ -n $$bad ]]; then echo "not as gofmt writes it (gofmt -w):"; echo "$$bad"; exit 1; fi

.PHONY: check/vet
check/vet:
	for m in $(MODULES); do go -C "$$m" vet -tags e2e ./...; done

# staticcheck reads the source of all that a module depends on; for kube-scheduler's
# that takes longer than everything else.
.PHONY: check/lint
check/lint:
	staticcheck=$$($(call tool,-n staticcheck)); \
	for m in $(filter-out decider/upstream/,$(MODULES)); do (cd "$$m" && "$$staticcheck" -tags e2e ./...); done

.PHONY: check/proto
check/proto:
	$(call tool,buf) lint
	$(call tool,buf) format --diff --exit-code
	$(if $(wildcard proto/released.binpb),$(call tool,buf) breaking --against proto/released.binpb)

.PHONY: check/generate
check/generate:
	.ci/generated

.PHONY: check/tidy
check/tidy:
	for m in $(MODULES); do go -C "$$m" mod tidy -diff; done

.PHONY: check/rules
check/rules:
	go test ./deploy

.PHONY: check/vulnerabilities
check/vulnerabilities:
	.ci/vulnerabilities

.PHONY: generate
generate: ## Generate the contract's Go code
	$(call tool,buf) generate --template proto/buf.gen.yaml

# IMG is what the images' names begin with, for example registry.example/berth.
IMG ?= berth

.PHONY: image
image: ## Build the images IMG/decider and IMG/watcher
	docker build --file deploy/Dockerfile --build-arg VERSION='$(VERSION)' --target decider --tag '$(IMG)/decider:$(VERSION)' .
	docker build --file deploy/Dockerfile --build-arg VERSION='$(VERSION)' --target watcher --tag '$(IMG)/watcher:$(VERSION)' .

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin

.PHONY: bin/tally
bin/tally:
	@go build -o bin/tally ./deploy/tally
