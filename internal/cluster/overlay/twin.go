package overlay

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// twin finds out whether another host has this one's ID, as a copy of it does: it says that
// it is alive in words that this run of this host's daemon did not write. A run before this
// one may have left such words, and a store that was restored have older ones, but once.
type twin struct {
	run  string // of this host's daemon: no other has it
	rev  int64  // at which the other's words were last seen to be put
	seen int    // how often
	at   time.Time
	addr netip.Addr // where it is, as it says
}

// aliveText is what hosts say of being alive. Versions before say nothing: {}.
type aliveText struct {
	Run string     `json:"run,omitempty"`
	At  netip.Addr `json:"at,omitzero"`
}

// newRun is short: what is alive has no more than 64 bytes.
func newRun() string {
	b := make([]byte, 3)
	_, _ = rand.Read(b) // it never fails
	return fmt.Sprintf("%x", b)
}

// words are this host's.
func (t *twin) words(me Host) []byte {
	at := me.Public4
	if !at.IsValid() {
		at = me.Public6
	}
	text, _ := json.Marshal(aliveText{t.run, at}) // it is text
	return text
}

// look looks at what says that this host is alive, which it has said itself before. It
// reports whether that is another's for the first time.
func (t *twin) look(i *item, now time.Time, ttl time.Duration) (first bool) {
	var a aliveText
	if i == nil || i.entry.Rev == t.rev || json.Unmarshal(i.entry.Value, &a) != nil || a.Run == "" || a.Run == t.run {
		if now.Sub(t.at) > ttl {
			t.seen = 0
		}
		return false
	}
	t.rev, t.at, t.addr = i.entry.Rev, now, a.At
	t.seen++
	return t.seen == 1
}

// text says that there is one, "" that there is none.
func (t *twin) text() string {
	switch {
	case t.seen < 2:
		return ""
	case !t.addr.IsValid():
		return "another host has this host's ID: one of the two is a copy of the other"
	}
	return fmt.Sprintf("the host at %s has this host's ID: one of the two is a copy of the other", t.addr)
}
