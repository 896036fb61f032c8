package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/inspect"
)

// candidate is an object that another program may have put there as a snapshot, on the view of this number.
type candidate struct {
	view int
	o    *Object
}

// foreignObject is an object that was read and found to be no snapshot, as it was then.
type foreignObject struct {
	size    int64
	modTime time.Time
	seen    time.Time // when the reconciliation began that has listed it last
}

// adoptable returns the object of a group that may be a snapshot of another program: a file of K3s or RKE2, compressed or
// not, or a *.db of etcdctl; nil when there is none or more than one, or when only what is signed is believed. One that was
// written just now may not be whole yet.
func (r *reconciliation) adoptable(v *view, g *group) *Object {
	if g == nil || g.manifest || !ValidName(g.name) || !r.cfg.Trust.believesUnsigned() {
		return nil
	}
	var one *Object
	for i := range g.objects {
		o := &g.objects[i]
		switch strings.TrimPrefix(o.Key, r.key(g.name)) {
		case "", zipSuffix, dataSuffix:
			if one != nil {
				return nil
			}
			one = o
		}
	}
	if one == nil || one.Size == 0 || r.begin.Sub(one.ModTime) < r.cfg.YoungAge || r.knownForeign(v, one) {
		return nil
	}
	return one
}

// knownForeign reports whether an object was read before and found to be no snapshot.
func (r *reconciliation) knownForeign(v *view, o *Object) bool {
	r.Cluster.mu.Lock()
	defer r.Cluster.mu.Unlock()
	was, ok := r.notSnapshots[v.b.Name()][o.Key]
	if !ok || was.size != o.Size || !was.modTime.Equal(o.ModTime) {
		return false
	}
	was.seen = r.begin
	r.notSnapshots[v.b.Name()][o.Key] = was
	return true
}

func (r *reconciliation) setForeign(v *view, o *Object) {
	r.Cluster.mu.Lock()
	defer r.Cluster.mu.Unlock()
	of := r.notSnapshots[v.b.Name()]
	if of == nil {
		of = map[string]foreignObject{}
		r.notSnapshots[v.b.Name()] = of
	}
	of[o.Key] = foreignObject{o.Size, o.ModTime, r.begin}
}

// forgetForeign forgets what was no snapshot and is not there any more.
func (r *reconciliation) forgetForeign() {
	r.Cluster.mu.Lock()
	defer r.Cluster.mu.Unlock()
	for _, v := range r.views {
		if v.known {
			maps.DeleteFunc(r.notSnapshots[v.b.Name()], func(_ string, o foreignObject) bool { return o.seen.Before(r.begin) })
		}
	}
}

// adopt makes a record of what another program has put on backends: each copy is read whole, checked and inspected. Nothing
// is written there. One snapshot is read at a time.
func (r *reconciliation) adopt(ctx context.Context, it item, copies []candidate, ch *change) error {
	if r.dry {
		return r.wouldAdopt(ctx, it, copies, ch)
	}
	select {
	case r.adopting <- struct{}{}:
		defer func() { <-r.adopting }()
	case <-ctx.Done():
		return cancelled(ctx, fmt.Sprintf("adopt %s", it.name))
	}
	if _, err := r.cfg.Catalog.Get(ctx, it.name); !isNotFound(err) {
		return err // another replica has just adopted it, or the catalog does not answer
	}
	rec := &Record{
		Snapshot: Snapshot{Name: it.name, Cluster: r.cfg.Name, Trigger: TriggerAdopted, Pinned: true},
		File:     strings.TrimPrefix(copies[0].o.Key, r.cfg.Prefix), Seen: map[string]time.Time{},
	}
	rec.Compression = compressionOf(rec.File)
	rec.CreateTime, rec.Node = originOf(it.name, copies[0].o.ModTime)
	for _, c := range copies {
		v := r.views[c.view]
		if c.o.Key != r.key(rec.File) {
			r.foreign(ctx, v, c.o.Key) // the other backend has it in another form
			continue
		}
		if loc := r.take(ctx, v, rec, c.o); loc != nil {
			rec.Locations = append(rec.Locations, *loc)
			ch.listed[c.view], ch.added[c.view] = true, true
		}
	}
	if len(rec.Locations) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	setState(&rec.Snapshot)
	r.log.InfoContext(ctx, "snapshot adopted", "snapshot", rec.Name, "state", rec.State.String(), "revision", rec.Revision)
	return r.commit(ctx, it, rec, ch, true)
}

// wouldAdopt says what adopt would do, as far as the first bytes of each copy show.
func (r *reconciliation) wouldAdopt(ctx context.Context, it item, copies []candidate, ch *change) error {
	for _, c := range copies {
		v := r.views[c.view]
		in, err := OpenCopy(ctx, v.b, c.o.Key, &Snapshot{Compression: compressionOf(c.o.Key)})
		if err == nil {
			_, _, err = readHead(in)
			_ = in.Close()
		}
		switch {
		case errors.Is(err, errNoSnapshot):
			r.foreign(ctx, v, c.o.Key)
		case err != nil:
			r.fail(v, err)
		default:
			ch.listed[c.view], ch.added[c.view] = true, true
		}
	}
	return r.commit(ctx, it, nil, ch, false)
}

// readHead reads the first bytes of a copy, and returns how large the database says that it is.
func readHead(in io.Reader) (head []byte, size int64, err error) {
	head = make([]byte, inspect.HeadSize)
	n, err := io.ReadFull(in, head)
	size, ok := inspect.DeclaredSize(head[:n])
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && ReasonOf(err) != ReasonChecksumMismatch:
		return nil, 0, err
	case !ok:
		return nil, 0, errNoSnapshot
	}
	return head, size, nil
}

// take reads one copy and returns its location; nil when it is no snapshot, or could not be read. The first good copy
// describes the record.
func (r *reconciliation) take(ctx context.Context, v *view, rec *Record, o *Object) *Location {
	s, err := r.readForeign(ctx, v.b, rec)
	loc := r.newLocation(v, rec)
	loc.Size, loc.State = o.Size, StateReady
	switch {
	case errors.Is(err, errNoSnapshot) && rec.Version > 0: // it was one when it was read before
		loc.State, loc.Error = StateFailed, err.Error()
	case errors.Is(err, errNoSnapshot):
		r.setForeign(v, o)
		r.log.WarnContext(ctx, "object is no snapshot", "backend", v.b.Name(), "key", o.Key, "error", err)
		r.foreign(ctx, v, o.Key)
		return nil
	case ReasonOf(err) == ReasonChecksumMismatch || ReasonOf(err) == ReasonSnapshotUnreadable:
		loc.State, loc.Error = StateFailed, err.Error()
	case err != nil:
		r.fail(v, err)
		return nil
	case rec.StoredSHA256 == "":
		rec.Revision, rec.TotalKeys, rec.Hash, rec.StorageVersion = s.Revision, s.TotalKeys, s.Hash, s.StorageVersion
		rec.DBSize, rec.SHA256, rec.StoredSize, rec.StoredSHA256 = s.DBSize, s.SHA256, s.StoredSize, s.StoredSHA256
		rec.Labels = r.foreignLabels(ctx, v.b, rec.File)
	case rec.StoredSHA256 != s.StoredSHA256:
		loc.State, loc.Error = StateFailed, "it holds another snapshot under this name"
	}
	rec.Seen[v.b.Name()] = o.ModTime.UTC()
	return &loc
}

// settleAdopted compares the location of an adopted snapshot with what is listed: what is as it was when it was read is
// good; what has changed is read again.
func (r *reconciliation) settleAdopted(ctx context.Context, i int, rec *Record, loc *Location, data *Object, ch *change) {
	v := r.views[i]
	name := v.b.Name()
	ch.listed[i] = true
	if loc != nil && loc.Size == data.Size && rec.Seen[name].Equal(data.ModTime) || r.dry {
		ch.unchanged[i] = loc != nil
		ch.added[i] = loc == nil
		return
	}
	select {
	case r.adopting <- struct{}{}:
		defer func() { <-r.adopting }()
	case <-ctx.Done():
		return
	}
	if len(readyBackends(rec)) == 0 || len(rec.Locations) == 1 && loc != nil {
		rec.StoredSHA256 = "" // whatever it is now describes it anew
	}
	if rec.Seen == nil {
		rec.Seen = map[string]time.Time{}
	}
	now := r.take(ctx, v, rec, data)
	switch {
	case now == nil:
		ch.unchanged[i] = loc != nil
	case loc == nil:
		rec.Locations = append(rec.Locations, *now)
		ch.added[i] = true
	default:
		*loc = *now
		ch.updated[i] = true
	}
}

// errNoSnapshot: an object has the name of a snapshot and is none.
var errNoSnapshot = errors.New("it does not begin like a database of etcd")

// readForeign reads the copy of a record's file on a backend through the spool, and returns what it holds. The error has
// ReasonChecksumMismatch or ReasonSnapshotUnreadable when it is damaged, and is errNoSnapshot when it is none.
func (c *Cluster) readForeign(ctx context.Context, b Backend, rec *Record) (*Snapshot, error) {
	dir, err := os.MkdirTemp(c.cfg.SpoolDir, "adopt-")
	if err != nil {
		return nil, spoolError("create", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "snapshot"+dataSuffix)
	s, err := c.spoolForeign(ctx, b, rec, path)
	if err != nil {
		return nil, err
	}
	res, err := inspect.File(ctx, path, inspect.Options{TempDir: dir})
	switch {
	case errors.Is(err, inspect.ErrUnreadable):
		return nil, &Error{Reason: ReasonSnapshotUnreadable, Backend: b.Name(), Message: "inspect " + b.URI(c.key(rec.File)), Err: err}
	case err != nil:
		return nil, err
	}
	s.Revision, s.TotalKeys, s.Hash, s.StorageVersion = res.Revision, res.TotalKeys, res.Hash, res.StorageVersion
	return s, nil
}

// spoolForeign writes what etcd sent to path, as far as the database itself says that there is: an archive may pretend to
// hold anything.
func (c *Cluster) spoolForeign(ctx context.Context, b Backend, rec *Record, path string) (*Snapshot, error) {
	in, err := OpenCopy(ctx, b, c.key(rec.File), &Snapshot{Compression: rec.Compression})
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	head, size, err := readHead(in)
	if err != nil {
		return nil, err
	}
	if err := checkSpace(filepath.Dir(path), size); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, spoolError("create", err)
	}
	defer func() { _ = out.Close() }()
	limit := &limitedWriter{w: out, left: size + checksumSize}
	if _, err = limit.Write(head); err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{limit}, struct{ io.Reader }{in}, make([]byte, fetchBuffer))
	}
	cr := in.(*copyReader)
	switch {
	case limit.err != nil:
		return nil, spoolError("write", limit.err)
	case errors.Is(err, errTooLong):
		return nil, cr.damaged(fmt.Errorf("%w: it says that it has %d bytes", errTooLong, size))
	case err != nil:
		return nil, err
	}
	return &Snapshot{DBSize: cr.dbSize, SHA256: cr.dbSum, StoredSize: cr.stored.n, StoredSHA256: cr.stored.hex()}, nil
}

var errTooLong = errors.New("the database in it is longer than it says")

// limitedWriter takes so many bytes and no more.
type limitedWriter struct {
	w    io.Writer
	left int64
	err  error // of w
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, errTooLong
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	l.err = err
	return n, err
}

// compressionOf returns how another program's file is compressed, by its name.
func compressionOf(file string) Compression {
	if strings.HasSuffix(file, zipSuffix) {
		return CompressionZip
	}
	return CompressionNone
}

// originOf returns when and where another program took a snapshot, as far as its name says so in the manner of K3s.
func originOf(name string, modTime time.Time) (created time.Time, node string) {
	m := k3sName.FindStringSubmatch(name)
	if m == nil {
		return modTime.UTC(), ""
	}
	unix, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil {
		return modTime.UTC(), ""
	}
	for _, prefix := range []string{"etcd-snapshot-", DefaultNamePrefix + "-"} {
		if n, ok := strings.CutPrefix(m[1], prefix); ok {
			node = n
		}
	}
	return time.Unix(unix, 0).UTC(), node
}

// foreignLabels returns what K3s or RKE2 keep of a snapshot, as far as labels can hold it. They do without it, and so do we.
func (c *Cluster) foreignLabels(ctx context.Context, b Backend, file string) map[string]string {
	reader, ok := b.(MetadataReader)
	if !ok {
		return nil
	}
	in, err := reader.Metadata(ctx, c.key(file))
	doc, err := readAllSmall(b, c.key(file), in, err)
	if err != nil {
		if !isNotFound(err) {
			c.log.WarnContext(ctx, "labels of an adopted snapshot not read", "backend", b.Name(), "file", file, "error", err)
		}
		return nil
	}
	var all map[string]any
	if json.Unmarshal(doc, &all) != nil {
		return nil
	}
	labels := map[string]string{}
	for k, v := range all {
		text, ok := v.(string)
		if ok && len(labels) < MaxLabels && ValidateLabels(map[string]string{k: text}) == nil {
			labels[k] = text
		}
	}
	return labels
}
