# Short names for long commands; .ci/run is what a change must pass.
.PHONY: test e2e soak attacks lint generate figures sbom vulnerabilities packages share chart
.PHONY: bench bench-save bench-restore bench-clusters bench-journal bench-journal-bytes bench-replay oracle recovery-point

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
packages: share sbom
	CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) go build -trimpath -o bin/ \
	  -ldflags "-s -w -X github.com/snapshotd/snapshotd/internal/cli.version=$(VERSION)" ./cmd/snapshotd
	for p in deb rpm; do VERSION=$(VERSION) ARCH=$(ARCH) \
	  go tool -modfile=tools/nfpm/go.mod nfpm package -f deploy/nfpm/nfpm.yaml -p $$p -t bin/ || exit 1; done

# The completion of shells and the manual pages, as they are below /usr/share.
SHARE = bin/share
share:
	rm -rf $(SHARE)
	mkdir -p $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d $(SHARE)/man/man1
	go run ./cmd/snapshotd completion bash > $(SHARE)/bash-completion/completions/snapshotd
	go run ./cmd/snapshotd completion zsh > $(SHARE)/zsh/site-functions/_snapshotd
	go run ./cmd/snapshotd completion fish > $(SHARE)/fish/vendor_completions.d/snapshotd.fish
	go run ./cmd/manpages $(SHARE)/man/man1 $(VERSION)
	gzip -9n $(SHARE)/man/man1/*.1

# The chart of Helm in bin/.
chart:
	go tool -modfile=tools/helm/go.mod helm package deploy/helm/snapshotd -d bin/ --version $(VERSION:v%=%) --app-version $(VERSION)

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

# Memory, goroutines and connections of a service of so many CLUSTERS, in REPLICAS.
CLUSTERS ?= 1000
REPLICAS ?= 1
bench-clusters:
	SNAPSHOTD_CLUSTERS=$(CLUSTERS) SNAPSHOTD_REPLICAS=$(REPLICAS) go test -tags e2e -count=1 -v -timeout 60m -run TestBenchClusters ./e2e

# How smoothly the console scrolls through 13,000 snapshots, and how soon its first card is there, ROUNDS times.
.PHONY: bench-console
bench-console:
	SNAPSHOTD_E2E_ROUNDS=$(ROUNDS) go test -tags e2e -count=1 -v -timeout 30m -run '^TestBenchConsole$$' ./e2e

# How long it takes until all that should tell of an outage does, and until it says that all is well again.
.PHONY: outages
outages:
	SNAPSHOTD_OUTAGES=1 go test -tags e2e -count=1 -v -timeout 90m -parallel 6 -run '^TestOutages$$' ./e2e

# How long puts take with and without a journal, ROUNDS times.
bench-journal:
	SNAPSHOTD_E2E_ROUNDS=$(ROUNDS) go test -tags e2e -count=1 -v -timeout 60m -run '^TestBenchJournal$$' ./e2e

# What a journal stores in SECONDS of a cluster of Kubernetes with so many BYTES of database.
SECONDS ?= 3600
bench-journal-bytes:
	SNAPSHOTD_E2E_BYTES=$(BYTES) SNAPSHOTD_E2E_SECONDS=$(SECONDS) go test -tags e2e -count=1 -v -timeout 0 -run '^TestBenchJournalBytes$$' ./e2e

# Restores with a journal of so many REVISIONS beside those of the snapshot alone, ROUNDS times.
REVISIONS ?= 135000
bench-replay:
	SNAPSHOTD_E2E_REVISIONS=$(REVISIONS) SNAPSHOTD_E2E_ROUNDS=$(ROUNDS) go test -tags e2e -count=1 -v -timeout 60m -run '^TestBenchReplay$$' ./e2e

# An hour of random changes and faults, and of revisions and times that are restored and compared.
oracle:
	SNAPSHOTD_ORACLE_SECONDS=$${SNAPSHOTD_ORACLE_SECONDS:-3600} go test -tags e2e -count=1 -v -timeout 0 -run '^TestJournalOracle$$' ./e2e

# An S3 server is away for an hour, and etcd compacts what the disk of the service alone has.
.PHONY: away
away:
	SNAPSHOTD_AWAY_SECONDS=$${SNAPSHOTD_AWAY_SECONDS:-3600} go test -tags e2e -count=1 -v -timeout 0 -run '^TestAnS3ThatIsAway$$' ./e2e

# 400 deaths: 200 processes, 200 machines; six clusters at once.
recovery-point:
	SNAPSHOTD_RPO_DEATHS=$${SNAPSHOTD_RPO_DEATHS:-400} go test -tags e2e -count=1 -v -timeout 0 -parallel 6 -run '^TestRecoveryPoint$$' ./e2e
