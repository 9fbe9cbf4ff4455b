package overlay

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTwin has a host be copied: both say so, and where the other is; neither removes what
// the other has made, nor do they write against each other without end. One that was only
// started again is no copy.
func TestTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		b := start(t, m, 2)
		quiet()
		b.create(net("aa", "app", "10.1.0.0/24"))
		b.Set([]Endpoint{end("aa", "e1", "10.1.0.2")})
		quiet()
		b.stop()
		b = start(t, m, 2)
		b.Set([]Endpoint{end("aa", "e1", "10.1.0.2")})
		time.Sleep(2 * TTL)
		synctest.Wait()
		if got := b.view().Copied; got != "" {
			t.Fatalf("after a restart: %s", got)
		}
		twin := start(t, m, 4, func(o *Options) { o.ID = "n-2" })
		twin.Set(nil)
		time.Sleep(TTL)
		synctest.Wait()
		for who, v := range map[string]*View{"192.0.2.4": b.view(), "192.0.2.2": twin.view()} {
			if want := "the host at " + who + " has this host's ID"; !strings.HasPrefix(v.Copied, want) {
				t.Errorf("copied: %q, want %q", v.Copied, want)
			}
			if n := len(v.Networks["aa"].Endpoints); n != 1 {
				t.Errorf("%d endpoints", n)
			}
		}
		rev := func() int64 {
			s, err := m.Another().List(t.Context(), prefix+"/")
			if err != nil {
				t.Fatal(err)
			}
			return s.Rev
		}
		before := rev()
		time.Sleep(time.Minute)
		if n := rev() - before; n > 60 {
			t.Errorf("%d writes in a minute", n)
		}
		twin.stop()
		time.Sleep(2*TTL + time.Second)
		synctest.Wait()
		if got := b.view().Copied; got != "" {
			t.Errorf("when the twin has ended: %s", got)
		}
		b.stop()
	})
}
