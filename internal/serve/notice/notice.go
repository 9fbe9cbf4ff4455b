// Package notice is for complaints that may be due a hundred thousand times in
// a second and are worth a line in the log now and then.
package notice

import (
	"log/slog"
	"sync"
	"time"
)

// How long a complaint stands before it is made again.
const every = time.Minute

// Notice is one complaint. It may be made from several goroutines.
type Notice struct {
	log  *slog.Logger
	text string

	mu    sync.Mutex // protects the following
	said  time.Time
	times int // that it was due since it was said
}

// New returns a complaint that has not been made yet.
func New(log *slog.Logger, text string) *Notice { return &Notice{log: log, text: text} }

// Say makes the complaint, with details of this time and how often it was due,
// unless it was made within the last minute.
func (n *Notice) Say(details ...any) { n.say(time.Now(), details) }

func (n *Notice) say(now time.Time, details []any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.times++
	if n.said.IsZero() || now.Sub(n.said) >= every {
		n.log.Warn(n.text, append(details, "times", n.times)...)
		n.said, n.times = now, 0
	}
}
