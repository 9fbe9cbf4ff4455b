package notice

import (
	"bytes"
	"log/slog"
	"testing"
	"time"
)

func TestSay(t *testing.T) {
	var b bytes.Buffer
	plain := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	n := New(slog.New(slog.NewTextHandler(&b, plain)), "full")
	start := time.Now()
	for i := range 100000 {
		n.say(start.Add(time.Duration(i)*time.Microsecond), []any{"client", i})
	}
	n.say(start.Add(every), []any{"client", "x"})
	const want = "level=WARN msg=full client=0 times=1\nlevel=WARN msg=full client=x times=100000\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
