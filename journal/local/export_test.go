package local

// FailNextSync makes the next sync of the open part's file return an error. The one after it succeeds, as on Linux,
// which then has dropped the pages that it could not write.
func (l *Log) FailNextSync(err error) { l.file = &failing{l.file, err} }

type failing struct {
	file
	err error
}

func (f *failing) Sync() error {
	if err := f.err; err != nil {
		f.err = nil
		return err
	}
	return f.file.Sync()
}

// HangNextSync makes the next sync of the open part's file wait until it is let go. hangs is closed once it does.
func (l *Log) HangNextSync() (hangs <-chan struct{}, letGo func()) {
	f := &hanging{file: l.file, hangs: make(chan struct{}), free: make(chan struct{})}
	l.file = f
	return f.hangs, func() { close(f.free) }
}

type hanging struct {
	file
	hangs, free chan struct{}
}

func (f *hanging) Sync() error {
	close(f.hangs)
	<-f.free
	return f.file.Sync()
}
