package datadir

import (
	"errors"
	"fmt"
	"runtime"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// etcdutl restores with etcdutl's code. That code reports a problem such as a full disk to its log, which ends the
// process, in goroutines that cannot be recovered; here it becomes an error, and the goroutines that still run wait for
// a lock for ever.
func etcdutl(cfg snapshot.RestoreConfig) error {
	result := make(chan error, 1)
	end := end{result}
	log := zap.New(zapcore.NewNopCore(), zap.WithFatalHook(end), zap.WithPanicHook(end))
	go func() {
		defer func() {
			if cause := recover(); cause != nil {
				end.with(fmt.Errorf("the database is not as etcd makes it: %v", cause))
			}
		}()
		end.with(snapshot.NewV3(log).Restore(cfg))
	}()
	return <-result
}

// end keeps the first outcome.
type end struct{ result chan<- error }

func (e end) with(err error) {
	select {
	case e.result <- err:
	default:
	}
}

// OnWrite implements [zapcore.CheckWriteHook]. The goroutine that wrote must not go on.
func (e end) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	e.with(err)
	runtime.Goexit()
}
