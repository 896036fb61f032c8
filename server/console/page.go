package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed page
var files embed.FS

// policy lets the page load its own scripts and style, and ask its own service, and nothing else: names, labels and
// errors are written by others, and must never become markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; " +
	"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// index is the file of the page itself; the files that it refers to are below Root.
const index = "index.html"

// Root is the path below which the page's parts are served.
const Root = "/console/"

// kinds are the media types of the parts. They do not depend on the machine's own list: browsers run no module of
// another type.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
}

// ServeIndex answers with the page.
func ServeIndex(w http.ResponseWriter, r *http.Request) { serve(w, r, index) }

// ServePart answers with a part of the page, the last element of the path.
func ServePart(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if name == index || Root+name != r.URL.Path {
		http.NotFound(w, r)
		return
	}
	serve(w, r, name)
}

func serve(w http.ResponseWriter, r *http.Request, name string) {
	content, err := fs.ReadFile(files, "page/"+name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(content)
	h := w.Header()
	h.Set("Content-Type", kinds[path.Ext(name)])
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // after an upgrade, new scripts must run with new scripts and the new service
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
}
