package daemon

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// closeTimeout is how long each part may take to close after the server has stopped.
const closeTimeout = 5 * time.Second

// closers are the parts that were opened, in this order, and have to be closed.
type closers []closer

type closer struct {
	name  string
	close func(context.Context) error
}

// later notes a part.
func (c *closers) later(name string, f func(context.Context) error) { *c = append(*c, closer{name, f}) }

// close closes everything, the last first, also when ctx is done. A part that does not close ends with the process;
// that is logged and not an error of the service.
func (c *closers) close(ctx context.Context, log *slog.Logger) {
	for _, part := range slices.Backward(*c) {
		// Each has its own time: one that hangs takes none from those behind it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		if err := part.close(ctx); err != nil {
			log.WarnContext(ctx, "close "+part.name, "error", err)
		}
		cancel()
	}
	*c = nil
}
