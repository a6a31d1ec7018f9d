# Datastore CSI. `make` lists what there is; each target installs what it needs (as root, on Debian).

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   ?= -s -w -X main.version=$(VERSION)
# Narrow a target: make test-unit PKG=./pkg/store/... TESTFLAGS='-run Wait -count 1'
PKG       ?= ./pkg/... ./cmd/...
TESTFLAGS ?=
FUZZTIME  ?= 30s
BENCHFLAGS ?=
NODES     ?= 1
CLUSTERFLAGS ?=
# make bench TYPE=lvm: a type of block pool beside the bare tool, in the test bed.
TYPE ?=

# The version is given above: asking git again would fail in a tree of another owner.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

BIN := $(CURDIR)/bin
VM  := $(CURDIR)/test/testbed/vm
# Tools are built once for each state of their module and each Go; bin/tools holds the present ones only.
TOOLS_KEY := $(shell { cat hack/tools/go.mod hack/tools/go.sum; $(GO) env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-12)
TOOLS     := $(BIN)/tools/$(TOOLS_KEY)
# Plain `go test` output with a count at the end; the whole of it, test by test, stays in bin/log.
gotest    = hack/gotest.sh $(TOOLS)/gotestsum
gotest-v  = hack/gotest.sh -v $(TOOLS)/gotestsum
golangci-lint  := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
controller-gen := sigs.k8s.io/controller-tools/cmd/controller-gen
gotestsum      := gotest.tools/gotestsum

# The suites that run in machines of the test bed too, two machines side by side.
in-machine = ./test/conformance/ ./test/sanity/ ./test/faults/ ./test/faults/storm/ ./test/harness/rows/

.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

##@ Use
.PHONY: help demo build image clean cluster cluster-down
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## Build, and show a volume's life on two datastores
	@hack/deps.sh fs
	@$(GO) run ./test/demo --driver $(BIN)/datastore-csi

build: ## Build the static binaries into bin/
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

cluster: ## Leave a Kubernetes cluster running here, and say how to use it (NODES=2)
	@hack/deps.sh cluster
	@$(GO) build -o $(BIN)/cluster-tool ./test/cluster/cmd/cluster
	@$(BIN)/cluster-tool --dir $(BIN)/cluster up --nodes $(NODES) $(CLUSTERFLAGS)

cluster-down: ## End it
	@$(GO) build -o $(BIN)/cluster-tool ./test/cluster/cmd/cluster
	@$(BIN)/cluster-tool --dir $(BIN)/cluster down

image: ## Build the images of node and controller, as files in bin/image
	@hack/deps.sh image
	@hack/image.sh $(VERSION) $(BIN)/image

clean: cluster-down ## Remove what was built, and end the cluster
	rm -rf $(BIN)

# What meets a real machine runs each time (-count 1); Go's cache may answer for the packages.
##@ Test
.PHONY: test test-unit sanity conformance machine faults testbed test-kube test-cluster e2e test-chart test-vm bench fuzz
test: ## All that CI runs, every part, with a summary
	@hack/parts.sh lint lint-selftest generate-check build test-unit test-chart sanity testbed test-kube conformance

test-unit: $(TOOLS)/gotestsum ## Packages, with the race detector, on real file systems and loop devices
	@hack/deps.sh fs race
	@$(gotest) unit -race -timeout 60m $(TESTFLAGS) $(PKG)

sanity: $(TOOLS)/gotestsum ## csi-sanity, in-process and against the binary
	@hack/deps.sh fs
	@$(gotest-v) sanity -count 1 -timeout 20m $(TESTFLAGS) ./test/sanity/...

conformance: $(TOOLS)/gotestsum ## One suite over every datastore type, and a part of the crash matrix
	@hack/deps.sh fs
	@failed=0; \
	$(gotest-v) conformance -count 1 -timeout 60m $(TESTFLAGS) ./test/conformance/... || failed=1; \
	$(gotest-v) crashes -count 1 -timeout 60m $(TESTFLAGS) ./test/faults/... || failed=1; \
	exit $$failed

machine: $(TOOLS)/gotestsum ## The same suites in machines of the test bed, on what needs its kernel (LVM): each day a part
	@hack/deps.sh testbed
	@TEST_MACHINE=1 $(gotest-v) machine -count 1 -timeout 90m $(TESTFLAGS) $(in-machine)

faults: $(TOOLS)/gotestsum ## The whole crash matrix: every point, every file system, every row (long)
	@hack/deps.sh fs testbed
	@failed=0; \
	TEST_CRASH_POINTS=all TEST_ROWS=all $(gotest-v) faults -count 1 -timeout 12h $(TESTFLAGS) ./test/faults/... || failed=1; \
	TEST_CRASH_POINTS=all TEST_MACHINE=1 $(gotest-v) faults-machine -count 1 -timeout 24h $(TESTFLAGS) $(in-machine) || failed=1; \
	exit $$failed

testbed: $(TOOLS)/gotestsum ## The tests of the test tools, here and inside the test bed's kernel
	@hack/deps.sh testbed
	@$(gotest) testbed -count 1 -timeout 60m $(TESTFLAGS) $$($(GO) list ./test/... | grep -vE '/test/(sanity|conformance|faults|kube|cluster|e2e)(/|$$)')

test-kube: $(TOOLS)/gotestsum ## The store in the Kubernetes API and the CRDs, on a real API server (cold, it first builds that)
	@hack/deps.sh cluster race
	@test/cluster/programs/build.sh kubernetes kube-apiserver >/dev/null
	@$(gotest) kube -race -count 1 -timeout 30m $(TESTFLAGS) ./test/kube/...

test-cluster: $(TOOLS)/gotestsum ## The tests of the test cluster (cold, it first builds Kubernetes)
	@hack/deps.sh cluster
	@test/cluster/programs/build.sh kubernetes >/dev/null
	@test/cluster/programs/build.sh sidecars >/dev/null
	@$(gotest) cluster -count 1 -timeout 30m $(TESTFLAGS) ./test/cluster/...

e2e: $(TOOLS)/gotestsum ## Images, chart, sidecars, kubelets, pods: the driver in a real cluster (cold, it first builds Kubernetes)
	@hack/deps.sh cluster image testbed
	@for module in kubernetes sidecars helm; do test/cluster/programs/build.sh $$module >/dev/null || exit 1; done
	@hack/image.sh $(VERSION) $(BIN)/image
	@$(gotest-v) e2e -count 1 -timeout 60m $(TESTFLAGS) ./test/e2e/

# Go's cache doesn't see that the chart has changed: it lies outside of the tests' module.
test-chart: $(TOOLS)/gotestsum ## The chart: what Helm makes of it, for the values that matter
	@hack/gotest.sh -C test/chart $(TOOLS)/gotestsum chart -count 1 -timeout 20m $(TESTFLAGS) ./...

test-vm: $(TOOLS)/gotestsum ## The packages of PKG in the test bed's kernel, not this machine's
	@$(gotest) vm -timeout 30m -exec $(VM) $(TESTFLAGS) $(PKG)

bench: build ## Speed beside bare system calls, as a table and bin/bench.json (BENCHFLAGS=-quick for a glance, TYPE=lvm,disk,partition for those)
	@hack/deps.sh fs testbed
	@CGO_ENABLED=0 $(GO) build -o $(BIN)/bench ./test/bench
	@$(BIN)/bench --driver $(BIN)/datastore-csi --vm $(VM) --json $(BIN)/bench.json $(if $(TYPE),--type $(TYPE)) $(BENCHFLAGS)

fuzz: ## Each fuzz test for FUZZTIME (30s); `make test-unit` runs their corpora
	@hack/fuzz.sh $(FUZZTIME) $(PKG)

##@ Keep the house
.PHONY: lint lint-selftest fmt generate generate-check
lint: $(TOOLS)/golangci-lint ## Hold the rules of .golangci.yml, and check the scripts
	@hack/deps.sh lint
	@$(TOOLS)/golangci-lint run
	@cd test/chart && $(TOOLS)/golangci-lint run --config $(CURDIR)/.golangci.yml
	@hack/check-scripts.sh
	@hack/check-tree.sh

lint-selftest: $(TOOLS)/golangci-lint $(TOOLS)/gotestsum ## Prove that each rule refuses what it is there for
	@GOLANGCI_LINT=$(TOOLS)/golangci-lint $(gotest) lint-selftest -timeout 30m ./hack/...

fmt: $(TOOLS)/golangci-lint ## Format the Go code
	@$(TOOLS)/golangci-lint fmt

generate: $(TOOLS)/controller-gen ## Make what is generated and committed
	@$(TOOLS)/controller-gen object crd paths=./pkg/api/... output:crd:dir=charts/datastore-csi/crds
	@cd test/chart && $(GO) run ./cmd/deploy --chart $(CURDIR)/charts/datastore-csi --out $(CURDIR)/deploy

generate-check: $(TOOLS)/controller-gen ## Fail if `make generate` or `go mod tidy` would change anything
	@hack/generate-check.sh pkg/api charts/datastore-csi/crds deploy

$(TOOLS)/%:
	@echo "building $* (once)"
	@find $(BIN)/tools -mindepth 1 -maxdepth 1 ! -path $(TOOLS) -exec rm -rf {} + 2>/dev/null || true
	@cd hack/tools && CGO_ENABLED=0 $(GO) build -ldflags '-s -w' -o $@.new $($*)
	@mv $@.new $@
