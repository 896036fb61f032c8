package server

import (
	"encoding/base64"
	"encoding/json"

	"github.com/snapshotd/snapshotd/snapshot"
)

// positions are, for each cluster, the position in its catalog up to which a watcher has all events. They make up a
// resume token, which is opaque to callers.
type positions map[string]snapshot.Position

// resumePosition is a position in a token.
type resumePosition struct {
	Revision int64  `json:"r"`
	History  string `json:"h,omitempty"`
}

// complete reports whether the position of each cluster is known. A token made earlier would lose events of the others.
func (p positions) complete(clusters []Cluster) bool {
	for _, c := range clusters {
		if p[c.Name()].Revision == 0 {
			return false
		}
	}
	return true
}

func (p positions) encode() string {
	all := map[string]resumePosition{}
	for cluster, at := range p {
		all[cluster] = resumePosition(at)
	}
	b, _ := json.Marshal(all) // a map of strings and numbers cannot fail
	return base64.RawURLEncoding.EncodeToString(b)
}

// decodeResume returns the positions of the clusters in a token; none when it is empty.
func decodeResume(token string, clusters []Cluster) (positions, error) {
	known := positions{}
	if token == "" {
		return known, nil
	}
	var all map[string]resumePosition
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	for _, at := range all {
		if at.Revision <= 0 {
			all = nil
			break
		}
	}
	if err != nil || len(all) == 0 {
		return nil, snapshot.Invalid("resume_token", "%.80q is not a token of this service; give a resume_token as it came",
			token)
	}
	for _, c := range clusters {
		if at, ok := all[c.Name()]; ok {
			known[c.Name()] = snapshot.Position(at)
		}
	}
	if len(known) == 0 {
		return nil, snapshot.Invalid("resume_token",
			"it belongs to a watch of other clusters; watch those, or begin without a token")
	}
	return known, nil
}
