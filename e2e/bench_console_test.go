//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// frames is how many frames are measured while a page scrolls.
const frames = 600

// scrolling moves an element so many pixels in each frame, and returns how long the frames took, in milliseconds. At
// the end it begins again.
const scrolling = `(selector, pixels, n) => new Promise(done => {
	const e = document.querySelector(selector);
	const took = [];
	let last = 0;
	const step = now => {
		if (last) took.push(now - last);
		last = now;
		if (took.length >= n) return done(took);
		if (pixels && e.scrollTop + e.clientHeight >= e.scrollHeight - 1) e.scrollTop = 0;
		e.scrollTop += pixels;
		requestAnimationFrame(step);
	};
	requestAnimationFrame(step);
})`

// TestBenchConsole measures how smoothly the list of 13,000 snapshots scrolls, beside a page that has nothing to draw
// and one that has 13,000 plain rows; and how long it takes to the first card when each request takes 150 ms longer,
// beside a page that asks one question with one script. The numbers are in docs/performance.md.
func TestBenchConsole(t *testing.T) {
	rounds := int(envInt(t, "SNAPSHOTD_E2E_ROUNDS", 0))
	if rounds == 0 {
		t.Skip("SNAPSHOTD_E2E_ROUNDS is not set")
	}
	chromium(t)
	console := simulate(6, 13000).serve(t)
	plain := plainPages(t)
	var rows []string
	for _, page := range []struct {
		name, url, ready, selector string
		pixels                     int
	}{
		{"an empty page, not scrolled", plain + "/empty", "#ready", "html", 0},
		{"13,000 plain rows, 60 pixels a frame", plain + "/rows", "#ready", ".scroller", 60},
		{"the console, 60 pixels a frame", console + "/#/clusters/prod-00", "#count", ".scroller", 60},
		{"13,000 plain rows, 5,000 pixels a frame", plain + "/rows", "#ready", ".scroller", 5000},
		{"the console, 5,000 pixels a frame", console + "/#/clusters/prod-00", "#count", ".scroller", 5000},
	} {
		for range rounds {
			b := browse(t, page.url, "")
			b.reads("that it is complete", page.ready, "13000")
			before := b.performance()
			var took []float64
			b.eval(fmt.Sprintf("(%s)(%q, %d, %d)", scrolling, page.selector, page.pixels, frames), &took)
			work := (b.performance() - before) * 1000 / frames
			b.call("Browser.close", nil, nil)
			slices.Sort(took)
			late := len(took) - sortedBelow(took, 25)
			rows = append(rows, fmt.Sprintf("| %s | %.1f ms | %.1f ms | %.1f ms | %d of %d | %.1f ms |", page.name,
				at(took, 0.5), at(took, 0.95), took[len(took)-1], late, len(took), work))
		}
	}
	t.Logf("\n| page | p50 | p95 | longest | frames over 25 ms | work of the main thread for a frame |\n"+
		"|---|---|---|---|---|---|\n%s", strings.Join(rows, "\n"))
	rows = nil
	for _, page := range []struct{ name, url, selector string }{
		{"one script that asks one question", plain + "/question", ".card"},
		{"the console, six clusters", console + "/", ".card"},
	} {
		for _, latency := range []int{0, 150} {
			var took []float64
			for range rounds {
				took = append(took, firstSeen(t, page.url, page.selector, latency))
			}
			slices.Sort(took)
			rows = append(rows, fmt.Sprintf("| %s | %d ms | %.0f ms | %.0f ms | %.0f ms |", page.name, latency, took[0],
				at(took, 0.5), took[len(took)-1]))
		}
	}
	t.Logf("\n| page | latency | least | median | most |\n|---|---|---|---|---|\n%s", strings.Join(rows, "\n"))
}

// at returns a quantile of sorted numbers.
func at(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func sortedBelow(sorted []float64, limit float64) int {
	i, _ := slices.BinarySearch(sorted, limit)
	return i
}

// performance returns how many seconds the main thread of the page has worked.
func (b *tab) performance() (seconds float64) {
	b.t.Helper()
	b.call("Performance.enable", nil, nil)
	var m struct {
		Metrics []struct {
			Name  string
			Value float64
		}
	}
	b.call("Performance.getMetrics", nil, &m)
	for _, metric := range m.Metrics {
		if metric.Name == "TaskDuration" {
			seconds = metric.Value
		}
	}
	return seconds
}

// firstSeen opens a page in a new browser whose requests take so many milliseconds longer, and returns after how many
// milliseconds an element of a selector was there.
func firstSeen(t *testing.T, url, selector string, latency int) (ms float64) {
	t.Helper()
	b := browse(t, "about:blank", "")
	b.call("Network.enable", nil, nil)
	b.call("Network.emulateNetworkConditions", map[string]any{
		"offline": false, "latency": latency, "downloadThroughput": -1, "uploadThroughput": -1,
	}, nil)
	b.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": `new MutationObserver((_, o) => {
		if (document.querySelector(` + quoted(selector) + `)) { window.firstSeen = performance.now(); o.disconnect(); }
	}).observe(document, { childList: true, subtree: true })`}, nil)
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	eventually(t, "the first "+selector, func() bool {
		_ = b.tryEval("window.firstSeen || 0", &ms)
		return ms > 0
	})
	b.call("Browser.close", nil, nil)
	return ms
}

// plainPages serves what the console is measured beside.
func plainPages(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	html := func(path, body string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<!doctype html><title>plain</title>" + body)) // the page may be gone
		})
	}
	html("/empty", "<p id=ready>13000")
	var rows strings.Builder
	for i := range 13000 {
		rows.WriteString("<tr><td>" + strconv.Itoa(i) + strings.Repeat("<td>a cell of a row", 9))
	}
	html("/rows", "<style>.scroller{overflow:auto;height:600px}td{white-space:nowrap;height:2rem}</style>"+
		"<p id=ready>13000<div class=scroller><table>"+rows.String()+"</table></div>")
	html("/question", "<script type=module src=/ask.js></script>")
	mux.HandleFunc("GET /ask.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write([]byte(`const a = await fetch('/answer'); const p = document.createElement('p');
			p.className = 'card'; p.append(await a.text()); document.body.append(p)`)) // the page may be gone
	})
	mux.HandleFunc("GET /answer", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("SAFE")) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}
