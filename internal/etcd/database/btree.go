package database

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/bits"
)

// The layout of a bbolt file, in the byte order of the machine that wrote it. A file is a row of pages of one size; a
// page and its overflow pages are one piece.
const (
	pageHeaderSize   = 16 // id u64, flags u16, count u16, overflow u32
	elementSize      = 16 // branch: pos, ksize u32, pgid u64; leaf: flags, pos, ksize, vsize u32
	bucketHeaderSize = 16 // root u64, sequence u64

	metaSize    = 64 // see parseMeta
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	noFreelist  = ^uint64(0)

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketLeaf   = 0x01 // flag of a leaf's element: its value is a bucket

	minPageSize = 1 << 10
	maxPageSize = 16 << 20
	maxDepth    = 64    // a page has at least two children, so no file is so deep
	maxKeySize  = 32768 // bbolt writes no larger one, and none that is empty: it panics when it meets one in a branch

	stretch = 2 << 20 // bytes of the file that are populated at a time
)

var order = binary.NativeEndian

// unreadable returns an ErrUnreadable that names the place and the fault. It never holds keys or values.
func unreadable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnreadable, fmt.Sprintf(format, args...))
}

// meta is the state of a database: where everything begins.
type meta struct {
	pageSize uint32
	root     uint64 // page of the bucket that holds the buckets
	freelist uint64 // page of the list of free pages, or noFreelist
	pages    uint64 // how many there are
	txid     uint64
}

// btree is a database whose pages are read once.
type btree struct {
	meta

	data []byte
	near bitmap // stretches of the file that were populated
	used bitmap // pages that were visited
	free bitmap // pages of the freelist; empty when the database has none, as etcd's on Linux
}

// page is the content of a page and its overflow pages.
type page struct {
	id    uint64 // 0 when the page is inside a bucket's value
	flags uint16
	count int
	data  []byte
}

// element is a key of a page with its value or page.
type element struct {
	key    []byte
	value  []byte // of a leaf
	both   []byte // of a leaf: the key and the value, which follows it
	bucket bool   // of a leaf: the value is a bucket
	child  uint64 // of a branch: the page with the keys from this one on
}

// openBtree reads the meta pages and the freelist.
func openBtree(data []byte) (*btree, error) {
	m, err := findMeta(data)
	if err != nil {
		return nil, err
	}
	if m.pages > uint64(len(data))/uint64(m.pageSize) {
		return nil, unreadable("it has %d pages of %d bytes, but the file only %d bytes", m.pages, m.pageSize, len(data))
	}
	t := &btree{meta: m, data: data, near: newBitmap(uint64(len(data))/stretch + 1), used: newBitmap(m.pages)}
	if m.freelist != noFreelist {
		if err := t.readFreelist(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// findMeta returns the meta page that bbolt would begin with, by bbolt's own rules: what is inspected must be what is
// restored. The first valid one says how large pages are, and so where the second one is; of two valid ones, the one of
// the later transaction counts. A size that no database has, or two sizes, is an error.
func findMeta(data []byte) (meta, error) {
	zeroth, zerothValid := parseMeta(data, 0)
	size, found := zeroth.pageSize, zerothValid
	for at := minPageSize; !found && at <= maxPageSize; at <<= 1 {
		var m meta
		m, found = parseMeta(data, at)
		size = m.pageSize
	}
	switch {
	case !found:
		return meta{}, unreadable("it has no valid meta page")
	case !isPageSize(size):
		return meta{}, unreadable("its meta page says that pages have %d bytes", size)
	}
	first, firstValid := parseMeta(data, int(size))
	switch {
	case firstValid && first.pageSize != size, !firstValid && !zerothValid:
		return meta{}, unreadable("its meta pages do not agree on the size of pages")
	case firstValid && (!zerothValid || first.txid > zeroth.txid):
		return first, nil
	}
	return zeroth, nil
}

// parseMeta reads the meta page at an offset: magic, version, page size, flags u32; root, sequence, freelist, pages,
// txid, checksum u64. It is valid when bbolt takes it for one, which does not look at the size of pages.
func parseMeta(data []byte, offset int) (m meta, valid bool) {
	if len(data) < offset+pageHeaderSize+metaSize {
		return meta{}, false
	}
	b := data[offset+pageHeaderSize:][:metaSize]
	m = meta{
		pageSize: order.Uint32(b[8:]),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		pages:    order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56])
	return m, order.Uint32(b) == metaMagic && order.Uint32(b[4:]) == metaVersion && order.Uint64(b[56:]) == sum.Sum64()
}

// isPageSize reports whether a database can have pages of this size.
func isPageSize(size uint32) bool {
	return size >= minPageSize && size <= maxPageSize && bits.OnesCount32(size) == 1
}

// page returns a page that was not visited yet.
func (t *btree) page(id uint64) (page, error) {
	if id < 2 || id >= t.pages {
		return page{}, unreadable("page %d is referred to, but there are %d", id, t.pages)
	}
	start := id * uint64(t.pageSize)
	t.approach(start)
	header := t.data[start:][:pageHeaderSize]
	if got := order.Uint64(header); got != id {
		return page{}, unreadable("page %d says that it is page %d", id, got)
	}
	overflow := uint64(order.Uint32(header[12:]))
	if overflow >= t.pages-id {
		return page{}, unreadable("page %d has %d overflow pages, more than there are", id, overflow)
	}
	for i := id; i <= id+overflow; i++ {
		if t.used.has(i) {
			return page{}, unreadable("page %d is in use twice", i)
		}
		if t.free.has(i) {
			return page{}, unreadable("page %d is in use and free", i)
		}
		t.used.set(i)
	}
	p := parsePage(t.data[start : start+(overflow+1)*uint64(t.pageSize)])
	p.id = id
	return p, nil
}

// approach populates the stretch of the file around an offset when it is the first of it that is read.
func (t *btree) approach(offset uint64) {
	if i := offset / stretch; !t.near.has(i) {
		t.near.set(i)
		populate(t.data[i*stretch : min((i+1)*stretch, uint64(len(t.data)))])
	}
}

func parsePage(data []byte) page {
	return page{flags: order.Uint16(data[8:]), count: int(order.Uint16(data[10:])), data: data}
}

// readFreelist reads the list of free pages. A count of 0xFFFF means that the count is the first entry.
func (t *btree) readFreelist() error {
	p, err := t.page(t.freelist)
	if err != nil {
		return err
	}
	if p.flags != freelistPage {
		return unreadable("page %d should be the freelist, its flags are %#x", p.id, p.flags)
	}
	entries := p.data[pageHeaderSize:]
	count := uint64(p.count)
	if count == 0xFFFF {
		count = order.Uint64(entries)
		entries = entries[8:]
	}
	if count > uint64(len(entries))/8 {
		return unreadable("the freelist on page %d has %d entries, more than fit", p.id, count)
	}
	t.free = newBitmap(t.pages)
	for i := range count {
		id := order.Uint64(entries[8*i:])
		if id < 2 || id >= t.pages || t.free.has(id) || t.used.has(id) {
			return unreadable("the freelist has page %d, which does not exist, is in use or is there twice", id)
		}
		t.free.set(id)
	}
	return nil
}

// checkAllPages finds pages that are neither in use nor free, once all were visited that can be. Without a freelist all
// others are free.
func (t *btree) checkAllPages() error {
	for id := uint64(2); t.free != nil && id < t.pages; id++ {
		if !t.used.has(id) && !t.free.has(id) {
			return unreadable("page %d is neither in use nor free", id)
		}
	}
	return nil
}

// walk calls visit with the elements of the leaves below a page, in order. All keys are in [low, high); nil is no
// bound.
func (t *btree) walk(id uint64, low, high []byte, depth int, visit func(element) error) error {
	if depth > maxDepth {
		return unreadable("page %d is deeper than any database", id)
	}
	p, err := t.page(id)
	if err != nil {
		return err
	}
	switch p.flags {
	case leafPage:
		return p.leaf(low, high, visit)
	case branchPage:
		return p.branch(low, high, func(e element, next []byte) error {
			return t.walk(e.child, e.key, next, depth+1, visit)
		})
	default:
		return unreadable("page %d should be a branch or a leaf, its flags are %#x", id, p.flags)
	}
}

// walkBucket calls visit with the elements of a bucket, in order: those of the pages below its root, or of the page
// that is inside the value itself.
func (t *btree) walkBucket(value []byte, visit func(element) error) error {
	if len(value) < bucketHeaderSize {
		return unreadable("a bucket of %d bytes is too short", len(value))
	}
	if root := order.Uint64(value); root != 0 {
		return t.walk(root, nil, nil, 0, visit)
	}
	value = value[bucketHeaderSize:]
	if len(value) < pageHeaderSize {
		return unreadable("a bucket with its page inside is too short for it")
	}
	p := parsePage(value)
	if p.flags != leafPage {
		return unreadable("the page inside a bucket should be a leaf, its flags are %#x", p.flags)
	}
	return p.leaf(nil, nil, visit)
}

// leaf calls visit with each element.
func (p page) leaf(low, high []byte, visit func(element) error) error {
	for i := range p.count {
		header, err := p.header(i)
		if err != nil {
			return err
		}
		e := element{bucket: order.Uint32(header)&bucketLeaf != 0}
		ksize, vsize := order.Uint32(header[8:]), order.Uint32(header[12:])
		both, err := p.bytes(i, order.Uint32(header[4:]), uint64(ksize)+uint64(vsize))
		if err != nil {
			return err
		}
		e.key, e.value, e.both = both[:ksize:ksize], both[ksize:], both
		if err := p.checkKey(i, e.key, low, high); err != nil {
			return err
		}
		if err := visit(e); err != nil {
			return err
		}
		low = e.key
	}
	return nil
}

// branch calls visit with each element and the key of the next one, or high.
func (p page) branch(low, high []byte, visit func(e element, next []byte) error) error {
	if p.count == 0 {
		return unreadable("branch page %d is empty", p.id)
	}
	e, err := p.branchElement(0)
	for i := range p.count {
		if err == nil {
			err = p.checkKey(i, e.key, low, high)
		}
		if err != nil {
			return err
		}
		next, following := high, element{}
		if i+1 < p.count {
			following, err = p.branchElement(i + 1)
			if err != nil {
				return err
			}
			next = following.key
		}
		if err := visit(e, next); err != nil {
			return err
		}
		low, e = e.key, following
	}
	return nil
}

func (p page) branchElement(i int) (element, error) {
	header, err := p.header(i)
	if err != nil {
		return element{}, err
	}
	key, err := p.bytes(i, order.Uint32(header), uint64(order.Uint32(header[4:])))
	return element{key: key, child: order.Uint64(header[8:])}, err
}

// header returns the fixed part of an element.
func (p page) header(i int) ([]byte, error) {
	start := pageHeaderSize + i*elementSize
	if start+elementSize > len(p.data) {
		return nil, unreadable("page %d has %d elements, more than fit", p.id, p.count)
	}
	return p.data[start:][:elementSize], nil
}

// bytes returns n bytes of element i, pos bytes after its header.
func (p page) bytes(i int, pos uint32, n uint64) ([]byte, error) {
	start := uint64(pageHeaderSize+i*elementSize) + uint64(pos)
	if start+n > uint64(len(p.data)) {
		return nil, unreadable("element %d of page %d ends beyond the page", i, p.id)
	}
	return p.data[start:][:n:n], nil
}

// checkKey checks a key of a page: its size, and that it is above the one before it, or, when it is the first, at or
// above the key that led to this page; and below high.
func (p page) checkKey(i int, key, low, high []byte) error {
	if len(key) == 0 || len(key) > maxKeySize {
		return unreadable("the key of element %d of page %d has %d bytes", i, p.id, len(key))
	}
	c := bytes.Compare(key, low)
	if low != nil && (c < 0 || c == 0 && i > 0) || high != nil && bytes.Compare(key, high) >= 0 {
		return unreadable("the key of element %d of page %d is out of order", i, p.id)
	}
	return nil
}

// bitmap is a set of small numbers, such as pages.
type bitmap []uint64

func newBitmap(n uint64) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) set(i uint64) { b[i/64] |= 1 << (i % 64) }

// has is false beyond the bitmap.
func (b bitmap) has(i uint64) bool { return i/64 < uint64(len(b)) && b[i/64]&(1<<(i%64)) != 0 }
