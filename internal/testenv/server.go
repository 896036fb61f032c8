package testenv

import (
	"bytes"
	"os/exec"
	"testing"
)

// runServer starts a server, and ends it with the test. When the test has failed, its output is told.
func runServer(tb testing.TB, name string, cmd *exec.Cmd) {
	tb.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v", name, err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if tb.Failed() {
			tb.Logf("%s: %s", name, log.String())
		}
	})
}
