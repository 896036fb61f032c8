# Short names for long commands; .ci/run is what a change must pass.
.PHONY: test e2e soak lint generate figures bench bench-save bench-restore bench-journal

test:
	go test -race ./...

e2e:
	go test -tags e2e -count=1 -timeout 40m ./e2e/...

# Five minutes of faults; SNAPSHOTD_SOAK_SECONDS, _ROUNDS and _SEED change it.
soak:
	SNAPSHOTD_SOAK_SECONDS=$${SNAPSHOTD_SOAK_SECONDS:-300} go test -tags e2e -count=1 -v -timeout 0 -run '^TestSoak$$' ./e2e

lint:
	go tool -modfile=tools/lint/go.mod golangci-lint run
	go tool -modfile=tools/buf/go.mod buf lint

generate:
	go tool -modfile=tools/buf/go.mod buf generate

# Sizes, complexity, interfaces and imports of the code, as Markdown.
figures:
	@go -C tools/figures run . ../..

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
