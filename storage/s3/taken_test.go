package s3_test

import (
	"bytes"
	"net/http"
	"sync"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

func TestPartsCountAsTakenOnceTheServerHasThem(t *testing.T) {
	t.Parallel()
	server := testenv.SharedS3(t)
	release := make(chan struct{})
	proxy := testenv.StartHTTPProxy(t, server.Addr(), nil)
	proxy.Set(func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if r.URL.Query().Get("partNumber") == "2" {
			<-release // the answer to the second part of three
		}
		forward(w, r)
	})
	b := newBucket(server).backend(t, proxy.Addr(), "")
	var mu sync.Mutex
	var most int64
	var held bool
	opts := putOptions(false)
	opts.Taken = func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		if most = max(most, n); !held && most >= 12*mib {
			if held = true; most > 12*mib {
				t.Errorf("%d bytes were taken while the server had two parts of 12 MiB together", most)
			}
			close(release)
		}
	}
	if err := b.Put(t.Context(), "default/x.db", bytes.NewReader(make([]byte, 20*mib)), opts); err != nil {
		t.Fatal(err)
	}
	if most != 20*mib || !held {
		t.Errorf("%d bytes were taken of 20 MiB", most)
	}
}
