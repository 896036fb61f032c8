module github.com/snapshotd/snapshotd/tools/sbom

go 1.26.0
