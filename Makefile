# Short names for long commands; .ci/run is what a change must pass.
.PHONY: test e2e soak attacks lint generate figures sbom vulnerabilities packages bench bench-save bench-restore bench-journal bench-replay

test:
	go test -race ./...

e2e:
	go test -tags e2e -count=1 -timeout 40m ./e2e/...

# Five minutes of faults; SNAPSHOTD_SOAK_SECONDS, _ROUNDS and _SEED change it.
soak:
	SNAPSHOTD_SOAK_SECONDS=$${SNAPSHOTD_SOAK_SECONDS:-300} go test -tags e2e -count=1 -v -timeout 0 -run '^TestSoak$$' ./e2e

# The tests that hold the attacks of docs/attacks.md, package by package. All packages run; those that fail are named at
# the end.
attacks:
	@sed -n 's/^|.*| `\(\.[a-z0-9\/]*\) \(Test[A-Za-z0-9_]*\)` |$$/\1 \2/p' docs/attacks.md | sort -u | \
	awk '{ run[$$1] = run[$$1] "|" $$2 } END { for (p in run) print p, "^(" substr(run[p], 2) ")$$" }' | sort | { \
	failed=; while read -r package run; do \
	  go test -tags e2e -count=1 -timeout 40m -run "$$run" "$$package" </dev/null || failed="$$failed $$package"; \
	done; \
	test -z "$$failed" || { echo "attacks: failed in$$failed" >&2; exit 1; }; }

lint:
	go tool -modfile=tools/lint/go.mod golangci-lint run
	go tool -modfile=tools/buf/go.mod buf lint

generate:
	go tool -modfile=tools/buf/go.mod buf generate

# Sizes, complexity, interfaces and imports of the code, as Markdown.
figures:
	@go -C tools/figures run . ../..

# What the program is made of, as CycloneDX, and the licences of it with their texts; one that is not allowed is an error.
sbom:
	mkdir -p bin
	go build -o bin/ ./cmd/snapshotd
	go tool -modfile=tools/sbom/go.mod cyclonedx-gomod bin -json -licenses -assert-licenses -std -version $(VERSION) \
	  -output bin/snapshotd.cdx.json bin/snapshotd
	go -C tools/sbom build -o ../../bin/sbom . && bin/sbom bin/snapshotd.cdx.json bin/licences.txt

# Known vulnerabilities in what the program calls; needs the database at vuln.go.dev.
vulnerabilities:
	go tool -modfile=tools/sbom/go.mod govulncheck ./cmd/snapshotd

# Packages for Debian and Red Hat in bin/.
VERSION ?= v0.0.0
ARCH ?= amd64
packages: sbom
	mkdir -p bin/completion/bash-completion/completions bin/completion/zsh/site-functions bin/completion/fish/vendor_completions.d
	CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) go build -trimpath -o bin/ \
	  -ldflags "-s -w -X github.com/snapshotd/snapshotd/internal/cli.version=$(VERSION)" ./cmd/snapshotd
	go run ./cmd/snapshotd completion bash > bin/completion/bash-completion/completions/snapshotd
	go run ./cmd/snapshotd completion zsh > bin/completion/zsh/site-functions/_snapshotd
	go run ./cmd/snapshotd completion fish > bin/completion/fish/vendor_completions.d/snapshotd.fish
	for p in deb rpm; do VERSION=$(VERSION) ARCH=$(ARCH) \
	  go tool -modfile=tools/nfpm/go.mod nfpm package -f deploy/nfpm/nfpm.yaml -p $$p -t bin/ || exit 1; done

bench:
	go test -run '^$$' -bench . ./internal/codec/seekable ./internal/etcd/database ./catalog ./storage

# A save beside etcdctl and K3s' way: BYTES of database, ROUNDS times.
BYTES ?= 1181116006
ROUNDS ?= 5
bench-save:
	SNAPSHOTD_E2E_BYTES=$(BYTES) SNAPSHOTD_E2E_ROUNDS=$(ROUNDS) go test -tags e2e -count=1 -v -timeout 60m -run TestBenchSave ./e2e

# Restores and drills beside etcdutl's restore, of one snapshot of so many BYTES, ROUNDS times.
bench-restore:
	SNAPSHOTD_E2E_BYTES=$(BYTES) SNAPSHOTD_E2E_ROUNDS=$(ROUNDS) go test -tags e2e -count=1 -v -timeout 60m -run TestBenchRestore ./e2e

# How long puts take with and without a journal, ROUNDS times.
bench-journal:
	SNAPSHOTD_E2E_ROUNDS=$(ROUNDS) go test -tags e2e -count=1 -v -timeout 60m -run TestBenchJournal ./e2e

# Restores with a journal of so many REVISIONS beside those of the snapshot alone.
REVISIONS ?= 135000
bench-replay:
	SNAPSHOTD_REPLAY_REVISIONS=$(REVISIONS) go test -count=1 -v -timeout 60m -run TestBenchReplay ./internal/restore
