# An index of this repository's commands. What CI does besides is in .ci/run.

# The race detector needs a C compiler, and Go turns cgo off where it finds none.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

# Packages below a folder called testdata are not part of ./... and have to be named.
PACKAGES := ./... ./testdata/connectors/... ./testdata/demo ./testdata/layout

.PHONY: build test bench lint format generate demo release-dry-run ci

build:
	CGO_ENABLED=0 go build -trimpath -o airbyte-publish .

test:
	go vet $(PACKAGES)
	go test $(RACE) -timeout 30m ./...
	go test -timeout 30m -run 'Dockerfile|Build|LintAndPlan|TestImage|Component|OtherCIs|GettingStarted' ./internal/cli

# Ratios against buildctl, measured in turn in one run; see docs/performance.md. It needs what .ci/run installs.
bench:
	go test ./internal/cli -run '^$$' -bench . -benchtime 1x -timeout 40m

lint:
	golangci-lint run $(PACKAGES)

format:
	gofmt -w $$(git ls-files '*.go')

generate:
	go generate ./...

demo:
	go run . sandbox -- go run ./testdata/demo

# Everything of a release that needs no network: builds twice, compares, checks, signs and verifies.
release-dry-run:
	.ci/release dry-run

ci:
	.ci/run
