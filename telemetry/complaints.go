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
	last string
	at   time.Time
}

func newComplaints(log *slog.Logger) *complaints { return &complaints{log: log} }

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	if err != nil {
		c.complain(err.Error())
	}
}

// Println implements promhttp.Logger.
func (c *complaints) Println(v ...any) { c.complain(strings.TrimSpace(fmt.Sprintln(v...))) }

func (c *complaints) complain(what string) {
	c.mu.Lock()
	again := what == c.last && time.Since(c.at) < complaintInterval
	if !again {
		c.last, c.at = what, time.Now()
	}
	c.mu.Unlock()
	if !again {
		c.log.Warn("telemetry was not delivered", "error", what)
	}
}
