package message

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	maxPage = 1000 // clusters
	// maxMessage is how many bytes of an answer a client of gRPC takes unless it is told otherwise.
	maxMessage = 4 << 20
)

// Page is a page of the clusters that a caller may see: those from From to before To.
type Page struct {
	From, To int
	paged    bool   // pages were asked for
	names    []byte // fingerprint of the names of all
	all      int
}

// PageOf returns the page that a request asks for, of clusters with these names.
func PageOf(req *snapshotdv1.ListClustersRequest, names []string) (Page, error) {
	size, token := int(req.GetPageSize()), req.GetPageToken()
	if size < 0 || size > maxPage {
		return Page{}, snapshot.Invalid("page_size", "is %d; 1 to %d are allowed, 0 means all clusters in one answer",
			size, maxPage)
	}
	p := Page{To: len(names), paged: size > 0 || token != "", names: fingerprint(names), all: len(names)}
	if token != "" {
		if err := p.goOn(token); err != nil {
			return Page{}, err
		}
	}
	if size > 0 {
		p.To = min(p.To, p.From+size)
	}
	return p, nil
}

// fingerprint returns a hash of names in their order: a page goes on only in the list in which the first one began.
func fingerprint(names []string) []byte {
	h := sha256.New()
	for _, n := range names {
		h.Write(protowire.AppendString(nil, n))
	}
	return h.Sum(nil)[:8]
}

// token returns the token of the page that begins with a cluster.
func (p *Page) token(from int) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(bytes.Clone(p.names), uint32(from)))
}

// goOn lets the page begin where a token says.
func (p *Page) goOn(token string) error {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != len(p.names)+4 {
		return snapshot.Invalid("page_token", "%.80q is none of this service's; give back next_page_token as it came", token)
	}
	from := binary.BigEndian.Uint32(b[len(p.names):])
	if !bytes.Equal(b[:len(p.names)], p.names) || int64(from) >= int64(p.all) {
		return snapshot.ReasonPageTokenExpired.New("list the clusters: they are not those of the first page any more").
			Advise("start again without a page token")
	}
	p.From = int(from)
	return nil
}

// Fill puts the clusters of the page into an answer; those without a name are gone. A page ends before a cluster for
// which there is no room. All clusters at once are an error then, if the answer is bounded: to leave some out would be
// to say that there are no others.
func (p *Page) Fill(resp *snapshotdv1.ListClustersResponse, clusters []status.Cluster, bounded bool) error {
	next, size := p.To, proto.Size(resp)+len(p.token(0))+2
	for i, c := range clusters {
		if c.Name == "" {
			continue
		}
		m := Cluster(c)
		size += protowire.SizeTag(1) + protowire.SizeBytes(proto.Size(m))
		full := size > maxMessage
		if full && bounded && !p.paged {
			return snapshot.Invalid("page_size", "is 0, and all %d clusters in one answer are more than the %d bytes that "+
				"clients take; ask for pages, such as of 200, and for the next one with next_page_token as page_token",
				p.all, maxMessage)
		}
		if full && p.paged && len(resp.GetClusters()) > 0 {
			next = p.From + i
			break
		}
		resp.Clusters = append(resp.Clusters, m)
	}
	if next < p.all {
		resp.NextPageToken = p.token(next)
	}
	return nil
}
