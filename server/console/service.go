package console

import (
	"encoding/json"
	"net/http"
)

// Service is what the page knows of the service beside the API.
type Service struct {
	Version  string `json:"version"`
	GRPC     string `json:"grpc"` // address for the commands that the page shows
	TLS      bool   `json:"tls"`
	ClientCA bool   `json:"clientCA"` // client certificates are demanded
	Token    bool   `json:"token"`    // the caller's commands need a token
	TraceURL string `json:"traceURL"` // of a trace, with {trace_id} in it; empty when traces are shown nowhere
	Session  bool   `json:"session"`  // the caller has logged in, and can log out
}

// Serve answers with the facts as JSON.
func (s Service) Serve(w http.ResponseWriter) {
	b, err := json.Marshal(s)
	if err != nil {
		http.Error(w, "the facts of the service cannot be encoded: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // the client is gone, and nobody can be told
}
