# Short names for long commands; .ci/run is what a change must pass.
.PHONY: test e2e lint generate bench

test:
	go test -race ./...

e2e:
	go test -tags e2e -count=1 -timeout 40m ./e2e/...

lint:
	go tool -modfile=tools/lint/go.mod golangci-lint run
	cd proto && go tool -modfile=../tools/buf/go.mod buf lint

generate:
	cd proto && go tool -modfile=../tools/buf/go.mod buf generate

bench:
	go test -run '^$$' -bench . ./internal/seekable ./internal/inspect ./catalog
