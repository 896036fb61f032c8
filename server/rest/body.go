package rest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/snapshot"
)

// agreeing refuses a body that contradicts the path. The library lets the path win and says nothing: who asks the path
// of one cluster to prune another one must not have it pruned.
func agreeing(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = contradiction(body, path)
		}
		if err != nil {
			st := wire.Status(err, "", nil)
			WriteStatus(w, HTTPCode(st), st)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next(w, r, path)
	}
}

// contradiction returns the error of a body with another value of a field than the path. The fields of paths are words
// whose names are the same in JSON, and a body is what a field of the path is in: of snapshot.name, the snapshot.
func contradiction(body []byte, path map[string]string) error {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(body, &fields) // a body that is no message is found out when it is read
	for _, of := range slices.Sorted(maps.Keys(path)) {
		field := of[strings.LastIndexByte(of, '.')+1:]
		var said string
		if json.Unmarshal(fields[field], &said) != nil || said == "" {
			continue // it is not set, or is no text, which is found out, too
		}
		if said != path[of] {
			return snapshot.Invalid(field, "is %.120q in the body, and %.120q in the path; leave it out of the body, "+
				"or ask the path of what is meant", said, path[of])
		}
	}
	return nil
}
