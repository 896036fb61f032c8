package config

import (
	"fmt"
	"strconv"

	"github.com/snapshotd/snapshotd/internal/bytesize"
	"github.com/snapshotd/snapshotd/internal/limit"
)

// Bytes is a number of bytes. In the file, it may have a unit: 500GB, 200GiB.
type Bytes int64

func parseBytes(s string) (Bytes, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return Bytes(n), nil // exact, and the validation says more of one below 0
	}
	n, err := bytesize.Parse(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of bytes; write it as 500GB, 200GiB or 500000000000", s)
	}
	return Bytes(n), nil
}

// Rate is bytes per second as a person writes them: 50MiB, 20MB. The empty one is no limit.
type Rate string

// PerSecond returns the bytes per second; 0 when there is no limit.
func (r Rate) PerSecond() (int64, error) {
	if r == "" {
		return 0, nil
	}
	n, err := bytesize.Parse(string(r))
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a number of bytes per second; write it as 50MiB or 20MB", string(r))
	case n < limit.Min:
		return 0, fmt.Errorf("%q is too slow; allow at least %s per second, or leave it out for no limit",
			string(r), bytesize.Format(limit.Min))
	}
	return n, nil
}
