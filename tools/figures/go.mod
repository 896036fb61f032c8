module github.com/snapshotd/snapshotd/tools/figures

go 1.26.0
