package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

// serve answers requests at a socket and returns a client for it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	c := Dial(socket)
	t.Cleanup(func() { c.Close(); srv.Close() })
	return c
}

func TestReferencesAreOneSegment(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.RequestURI
		w.WriteHeader(http.StatusNoContent)
	})
	for ref, want := range map[string]string{
		"web":              "DELETE /v1/sandboxes/web?force=true",
		"netns:/run/n/a b": "DELETE /v1/sandboxes/netns:%2Frun%2Fn%2Fa%20b?force=true",
		"..":               "DELETE /v1/sandboxes/%2E%2E?force=true",
		"a?b#c%d":          "DELETE /v1/sandboxes/a%3Fb%23c%25d?force=true",
	} {
		if err := c.RemoveSandbox(t.Context(), ref, true); err != nil || got != want {
			t.Errorf("%s: %s, %v", ref, got, err)
		}
	}
}

func TestOneConnection(t *testing.T) {
	remotes := map[net.Conn]bool{}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/networks/x" {
				w.WriteHeader(http.StatusNotFound)
				io.WriteString(w, `{"error":{"kind":"not-found","message":"no"}}`+"\n")
				return
			}
			io.WriteString(w, `{"ops":["`+strings.Repeat("x", 10000)+`"]}`+"\n")
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { remotes[c] = true; return ctx },
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	c := Dial(socket)
	for range 5 {
		if _, err := c.Diff(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Network(t.Context(), "x"); model.KindOf(err) != model.NotFound {
			t.Fatal(err)
		}
	}
	if len(remotes) != 1 {
		t.Errorf("%d connections", len(remotes))
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status     int
		body, want string
		kind       model.Kind
	}{
		{409, `{"error":{"kind":"in-use","message":"network app: remove: still used by web"}}`, "network app: remove: still used by web", model.InUse},
		{500, `oops`, "daemon at SOCKET: answer: 500 Internal Server Error", model.Internal},
		{400, `{}`, "daemon at SOCKET: answer: 400 Bad Request", model.Internal},
		{200, `{"ops":`, "daemon at SOCKET: answer: unexpected EOF", model.Internal},
	} {
		client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		})
		_, err := client.Diff(t.Context())
		if err == nil || strings.ReplaceAll(err.Error(), client.socket, "SOCKET") != c.want || model.KindOf(err) != c.kind {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
	}
}

func TestGoesAway(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := c.Diff(t.Context()); err == nil || err.Error() != "daemon at "+c.socket+": went away before it answered" {
		t.Error(err)
	}
}

func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, socket := range []string{filepath.Join(dir, "none"), stale} {
		_, err := Dial(socket).Diff(t.Context())
		if _, ok := errors.AsType[*NoDaemonError](err); !ok || err.Error() != "no daemon at "+socket+`: start one with "sealane daemon"` {
			t.Errorf("%s: %v", socket, err)
		}
	}
}

// TestNotAllowed reads the error, as root is never refused.
func TestNotAllowed(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Dial(socket).unreachable(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", os.ErrPermission)})
	if model.KindOf(err) != model.Denied || err.Error() != "socket "+socket+": permission denied (only root may use it)" {
		t.Error(err)
	}
	if err := errors.Join(os.Chmod(socket, 0o660), os.Chown(socket, 0, 54321)); err != nil {
		t.Fatal(err)
	}
	if got := whoMay(socket); got != "root and members of group 54321 may use it" {
		t.Error(got)
	}
	if got := whoMay("/nonexistent"); got != "only root may use it" {
		t.Error(got)
	}
}

func TestPortString(t *testing.T) {
	for want, p := range map[string]Port{
		"8080->80/tcp":               {Protocol: "tcp", HostPort: 8080, Port: 80, Count: 1},
		"192.0.2.1:53->53/udp":       {Protocol: "udp", HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 53, Port: 53, Count: 1},
		"[::1]:65534-65535->1-2/tcp": {Protocol: "tcp", HostIP: netip.IPv6Loopback(), HostPort: 65534, Port: 1, Count: 2},
		"80->80/sctp from 192.0.2.0/24;2001:db8::/32": {Protocol: "sctp", HostPort: 80, Port: 80, Count: 1,
			From: "192.0.2.0/24;2001:db8::/32"},
		"90/tcp": {Protocol: "tcp", Port: 90, Count: 1, Idle: true},
		"10.1.0.2:90-91/tcp, [fd00::2]:90-91/tcp": {Protocol: "tcp", Port: 90, Count: 2, Idle: true,
			Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")}},
		"8080->90/tcp, [fd00::2]:90/tcp from 192.0.2.7/32": {Protocol: "tcp", HostPort: 8080, Port: 90, Count: 1,
			Addresses: []netip.Addr{netip.MustParseAddr("fd00::2")}, From: "192.0.2.7/32"},
	} {
		if got := p.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestStatusOf(t *testing.T) {
	for kind, want := range map[model.Kind]int{model.Invalid: 400, model.NotFound: 404, model.Denied: 403, "made-up": 500} {
		if got := StatusOf(kind); got != want {
			t.Errorf("%s: %d", kind, got)
		}
	}
}
