package dns

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealane/sealane/internal/lab/netspace"
)

// TestPipeline asks one thing after the other over one connection without waiting
// (RFC 7766, 6.2.1.1): what is known is not kept waiting by what is not, and
// who has nothing more to ask still gets every answer.
func TestPipeline(t *testing.T) {
	up := serve(t, "127.0.0.1:0", nil, slow(2*time.Second, says(0, "%s 60 IN A 192.0.2.1")))
	r, s := start(t, up.addr), newSpace(t, "up")
	put(t, r, "a", View{NS: s.NS(), Zones: []*Zone{webZone()}})
	c, err := netspace.In(s.Space, func() (net.Conn, error) { return net.Dial("tcp", "127.0.0.11:53") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dc := dns.Conn{Conn: c}
	dc.SetDeadline(time.Now().Add(20 * time.Second))
	begun := time.Now()
	for _, name := range []string{"slow.example.", "slower.example.", "web.", "nobody."} {
		if err := dc.WriteMsg(question1(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"NOERROR 192.0.2.2", "NXDOMAIN", "NOERROR 192.0.2.1", "NOERROR 192.0.2.1"} {
		m, err := dc.ReadMsg()
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		took := time.Since(begun)
		if line(m) != want || i < 2 && took >= 2*time.Second || took > 4*time.Second+busy {
			t.Errorf("answer %d: %s after %v, want %s", i, line(m), took, want)
		}
	}
	if _, err := dc.ReadMsg(); err != io.EOF {
		t.Errorf("after the last answer: %v", err)
	}
}
