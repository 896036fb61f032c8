package telemetry

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// complaintInterval is how often the same complaint is logged: a collector that is down fails every few seconds.
const complaintInterval = time.Minute

// complaints logs the errors of OpenTelemetry and of the scrape.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[string]time.Time // of each signal that a dead collector does not take, and of few others
}

// mostComplaints is how many complaints are remembered.
const mostComplaints = 16

func newComplaints(log *slog.Logger) *complaints {
	return &complaints{log: log, said: map[string]time.Time{}}
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	if err != nil {
		c.complain(err.Error())
	}
}

// Println implements promhttp.Logger.
func (c *complaints) Println(v ...any) { c.complain(strings.TrimSpace(fmt.Sprintln(v...))) }

func (c *complaints) complain(what string) {
	if what = withoutSecrets(what); c.isNew(what) {
		c.log.Warn("telemetry was not delivered", "error", what)
	}
}

func (c *complaints) isNew(what string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.said[what]
	if ok && time.Since(at) < complaintInterval {
		return false
	}
	if len(c.said) >= mostComplaints {
		clear(c.said)
	}
	c.said[what] = time.Now()
	return true
}
