package member

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

func TestTokenText(t *testing.T) {
	token, err := newToken(newCA(t, time.Now()).cert)
	if err != nil {
		t.Fatal(err)
	}
	text := token.Text()
	if back, err := ParseToken(" " + text + "\n"); err != nil || back != token {
		t.Errorf("%v, %v", back, err)
	}
	if shown := fmt.Sprintf("%v %s %+v", token, token, token); strings.Contains(shown, text[8:20]) {
		t.Errorf("shown: %s", shown)
	}
	for _, bad := range []string{"", "slt1.", text[:len(text)-1], text + "A", "slt2." + text[5:], strings.Replace(text, text[9:10], "!", 1), text[5:], text + " x"} {
		if _, err := ParseToken(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTokenEnds(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ca := newCA(t, now).cert
	token, _ := newToken(ca)
	other, _ := newToken(ca)
	a := admit(token, now)
	for _, c := range []struct {
		secret []byte
		now    time.Time
		good   bool
	}{
		{token.secret[:], now, true},
		{token.secret[:], now.Add(tokenLife - time.Second), true},
		{token.secret[:], now.Add(tokenLife), false},
		{other.secret[:], now, false},
		{nil, now, false},
		{[]byte(a.Hash), now, false},
	} {
		if err := a.check(c.secret, c.now); (err == nil) != c.good {
			t.Errorf("%x at %s: %v", c.secret, c.now, err)
		}
	}
	if (admission{}).check(nil, now) == nil {
		t.Error("without a token anybody gets in")
	}
}

func TestLimiter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := newLimiter(func() time.Time { return now })
	bad, good := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range limitBurst {
		if !l.allows(bad) {
			t.Fatalf("attempt %d: refused", i)
		}
		l.failed(bad)
	}
	if l.allows(bad) || l.allows(netip.MustParseAddr("::ffff:192.0.2.1")) || !l.allows(good) {
		t.Error("not who failed is held back, and nobody else")
	}
	if now = now.Add(limitEvery); !l.allows(bad) {
		t.Error("it is never allowed again")
	}
	if l.failed(bad); l.allows(bad) {
		t.Error("one pause, two attempts")
	}
	one, two := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2:3")
	for range limitBurst {
		l.failed(one)
	}
	if l.allows(two) || !l.allows(netip.MustParseAddr("2001:db8:0:1::1")) {
		t.Error("a /64 is not one host")
	}
	for i := range 3 * limitHosts {
		l.failed(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
	}
	if len(l.full) > limitHosts+1 {
		t.Errorf("%d are remembered", len(l.full))
	}
	now = now.Add(time.Hour * 24)
	if l.failed(good); len(l.full) != 1 {
		t.Errorf("%d are remembered for ever", len(l.full))
	}
}

func TestWantedVoters(t *testing.T) {
	for ready, want := range map[int]int{1: 1, 2: 1, 3: 3, 4: 3, 5: 5} {
		if got := wantedVoters(ready); got != want {
			t.Errorf("%d members: %d vote, want %d", ready, got, want)
		}
	}
}

// TestRoster has hosts come and go in a store in memory.
func TestRoster(t *testing.T) {
	now := time.Now()
	ca := newCA(t, now)
	s := cluster.NewMemory(time.Now)
	ctx := t.Context()
	add := func(name string, n byte) error {
		id := identity{name, []netip.Addr{at4(n)}}
		return change(ctx, s, func(r roster) (cluster.Txn, error) {
			if err := r.free(id); err != nil {
				return cluster.Txn{}, err
			}
			rec := Record{Name: name, Addrs: id.addrs, Member: r.members() < maxMembers}
			return r.put(rec.with(now, signed(t, ca, id, now)))
		})
	}
	for i := range byte(7) {
		if err := add(string('a'+rune(i)), i+1); err != nil {
			t.Fatal(err)
		}
	}
	if add("a", 99) == nil || add("x", 1) == nil {
		t.Error("a name or an address was given twice")
	}
	token, _ := newToken(ca.cert)
	if err := putToken(ctx, s, admit(token, now)); err != nil {
		t.Fatal(err)
	}
	r, err := readRoster(ctx, s)
	if err != nil || len(r.hosts) != 7 || r.members() != maxMembers || r.token.check(token.secret[:], now) != nil {
		t.Fatalf("%d hosts, %d members, %v", len(r.hosts), r.members(), err)
	}
	serial := r.hosts["b"].Certificates[0].Serial
	if err := change(ctx, s, func(r roster) (cluster.Txn, error) { return r.remove("b", now, keyToken), nil }); err != nil {
		t.Fatal(err)
	}
	after, err := readRoster(ctx, s)
	if err != nil || len(after.hosts) != 6 || after.token.check(token.secret[:], now) == nil {
		t.Errorf("%d hosts, token %v, %v", len(after.hosts), after.token, err)
	}
	if _, refused := after.revs[keyRevoked+serial]; !refused {
		t.Error("its certificate is still good")
	}
	if _, done, _ := s.Commit(ctx, r.remove("c", now)); done {
		t.Error("a change of what was no more so was done")
	}
	if add("h", 8) != nil {
		t.Error("its place is not free")
	}
	if after, _ = readRoster(ctx, s); !after.hosts["h"].Member {
		t.Error("its place among the members is not free")
	}
}

func TestRecordForgetsWhatEnded(t *testing.T) {
	now := time.Now()
	ca := newCA(t, now)
	id := identity{"a", []netip.Addr{at4(1)}}
	rec := Record{Name: "a"}.with(now, signed(t, ca, id, now))
	rec = rec.with(now.Add(nodeLife-renewAt), signed(t, ca, id, now.Add(nodeLife-renewAt)))
	if len(rec.Certificates) != 2 {
		t.Errorf("%d certificates while both are good", len(rec.Certificates))
	}
	later := now.Add(nodeLife + time.Hour)
	if rec = rec.with(later, signed(t, ca, id, later)); len(rec.Certificates) != 2 {
		t.Errorf("%d certificates after one has ended", len(rec.Certificates))
	}
}
