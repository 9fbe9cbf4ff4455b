package health

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// long is how long an answer may take that is to come.
const long = time.Minute

// serves returns the address of a server of the test's own.
func serves(t *testing.T, conn func(net.Conn)) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go conn(c)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestAskHTTP(t *testing.T) {
	var seen http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = *r
		code := 200
		fmt.Sscanf(r.URL.Path, "/%d", &code)
		w.Header().Set("Location", "/500")
		w.WriteHeader(code)
		w.Write(make([]byte, 1<<20)) // which nobody reads
	}))
	defer s.Close()
	to := s.Listener.Addr().(*net.TCPAddr).AddrPort()
	for path, want := range map[string]string{
		"/": "", "/204": "", "/301?a=%20b&c": "", "/399": "", "//x": "", "/400": "status 400", "/404": "status 404", "/503": "status 503",
	} {
		err := ask(t.Context(), Check{To: to, Health: model.Health{Path: path, Timeout: long}})
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != fmt.Sprintf("http:%s to %s: %s", path, to, want)) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := ask(t.Context(), Check{To: to, Health: model.Health{Path: "/301?a=%20b&c", Timeout: long}}); err != nil || seen.RequestURI != "/301?a=%20b&c" || seen.Method != "GET" || seen.UserAgent() != "sealane-health" {
		t.Errorf("%v, %+v", err, seen)
	}
}

// TestAskHostile has servers that accept and do not answer as they should.
func TestAskHostile(t *testing.T) {
	for what, c := range map[string]struct {
		does    func(net.Conn)
		timeout time.Duration
		want    string
	}{
		"silent":   {func(c net.Conn) {}, 50 * time.Millisecond, "no answer within 50ms"},
		"hangs up": {func(c net.Conn) { c.Close() }, long, ""},
		"no HTTP":  {func(c net.Conn) { c.Write([]byte("SSH-2.0-x\r\n")); c.Close() }, long, ""},
		"endless head": {func(c net.Conn) {
			c.Write([]byte("HTTP/1.1 200 OK\r\n"))
			for {
				if _, err := c.Write([]byte("X: " + strings.Repeat("y", 1000) + "\r\n")); err != nil {
					return
				}
			}
		}, long, ""},
		"escapes": {func(c net.Conn) { c.Write([]byte("\x1b[31m\n\n\r\n")); c.Close() }, long, ""},
	} {
		to := serves(t, c.does)
		err := ask(t.Context(), Check{To: to, Health: model.Health{Path: "/", Timeout: c.timeout}})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(words(err), "\n\x1b") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAskTCP(t *testing.T) {
	ended := make(chan error, 1)
	to := serves(t, func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	})
	check := Check{To: to, Health: model.Health{Timeout: long}}
	if err := ask(t.Context(), check); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("something was said")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ask(ctx, check); err == nil {
		t.Error("it goes on after it is wanted no more")
	}
	check.To = netip.MustParseAddrPort("127.94.225.1:1")
	if err := ask(t.Context(), check); err == nil || err.Error() != "tcp to 127.94.225.1:1: connection refused" {
		t.Errorf("%v", err)
	}
}

// TestReal has a Checker and a backend that comes, goes and comes again.
func TestReal(t *testing.T) {
	said := make(chan model.HealthState, 10)
	c := New()
	defer c.Close()
	c.Start(func(_ Check, s model.HealthState) { said <- s })
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.94.225.1:80")) // nobody else's
	l, err := net.ListenTCP("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	next := func(want model.HealthState) {
		t.Helper()
		select {
		case got := <-said:
			if got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		case <-time.After(long):
			t.Fatalf("nobody says %s", want)
		}
	}
	c.Want([]Check{{Name: "x", To: to.AddrPort(), Health: model.Health{Interval: model.MinHealthInterval, Timeout: long, Retries: 2}, State: model.HealthStarting}})
	next(model.HealthUp)
	l.Close()
	next(model.HealthDown)
	if text := c.Trouble("x"); !strings.Contains(text, "connection refused") {
		t.Error(text)
	}
	if l, err = net.ListenTCP("tcp", to); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	next(model.HealthUp)
}
