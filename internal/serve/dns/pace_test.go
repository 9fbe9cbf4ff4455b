package dns

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	var p pace
	now := time.Now()
	taken := func(span time.Duration, every time.Duration) int {
		n := 0
		for end := now.Add(span); now.Before(end); now = now.Add(every) {
			if p.take(now) {
				n++
			}
		}
		return n
	}
	if n := taken(time.Millisecond, 100*time.Nanosecond); n < maxBurst || n > maxBurst+1 {
		t.Errorf("at once: %d, want %d", n, maxBurst)
	}
	if n := taken(3*time.Second, 10*time.Microsecond); n < 3*maxPace-1 || n > 3*maxPace+1 {
		t.Errorf("in three more seconds: %d, want %d", n, 3*maxPace)
	}
	now = now.Add(time.Minute)
	if n := taken(time.Millisecond, 100*time.Nanosecond); n < maxBurst || n > maxBurst+1 {
		t.Errorf("at once after a minute: %d, want %d", n, maxBurst)
	}
	now = now.Add(time.Minute)
	if n := taken(10*time.Second, time.Second/maxPace); n != 10*maxPace {
		t.Errorf("at an even pace: %d, want all %d", n, 10*maxPace)
	}
}
