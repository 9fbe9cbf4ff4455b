package dns

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestWhoAnswers asks a view, and its servers, and looks who is said to have answered.
func TestWhoAnswers(t *testing.T) {
	good := forwarderTo(t, serve(t, "127.0.0.1:0", nil, says(0, "%s 3600 IN A 192.0.2.1")).addr)
	bad := forwarderTo(t, serve(t, "127.0.0.1:0", nil, says(dns.RcodeServerFailure)).addr)
	closed := forwarderTo(t, netip.MustParseAddrPort("127.0.0.1:1"))
	outside := func(f *forwarder) *view {
		var host atomic.Pointer[forwarder]
		host.Store(f)
		return &view{zones: town().zones, host: &host}
	}
	forwards(t, good, question1("known.example."))
	for _, c := range []struct {
		v    *view
		name string
		want source
	}{
		{town(), "web.", fromHere}, {town(), "nosuch.", fromHere}, {town(), "other.example.", fromNobody}, {&view{}, "other.example.", fromNobody},
		{outside(good), "known.example.", fromCache}, {outside(good), "other.example.", fromServer},
	} {
		wire, err := question1(c.name).Pack()
		if err != nil {
			t.Fatal(err)
		}
		var q question
		if c.v.reply(nil, &q, wire, true, time.Now()); q.by != c.want {
			t.Errorf("%s: %s, want %s", c.name, q.by, c.want)
		}
		if c.v.reply(nil, &q, wire[:15], true, time.Now()); q.by != senseless {
			t.Errorf("%s, cut: %s", c.name, q.by)
		}
	}
	forwards(t, bad, question1("www.example."))
	forwards(t, closed, question1("www.example."))
	for f, want := range map[*forwarder]string{good: told, bad: useless, closed: silence} {
		if all := f.counts.flights.Read(); len(all) != 1 || all[want].Count != 1 {
			t.Errorf("%s: %v", want, all)
		}
	}
}
