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
