package database

// HeadSize is how many bytes of a database [DeclaredSize] looks at.
const HeadSize = 4096

// DeclaredSize returns how many bytes a database has that was copied in a transaction, as its first page says; ok is
// false when these are not the first bytes of one.
func DeclaredSize(head []byte) (size int64, ok bool) {
	if len(head) < HeadSize {
		return 0, false
	}
	m, ok := parseMeta(head, 0)
	const most = 1 << 46 // bytes, more than any etcd has
	if !ok || !isPageSize(m.pageSize) || m.pages == 0 || m.pages > most/uint64(m.pageSize) {
		return 0, false
	}
	return int64(m.pages * uint64(m.pageSize)), true
}
