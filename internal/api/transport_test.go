package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// raw answers each connection's first request with a text, and hangs up.
func raw(t *testing.T, text string) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
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
			_, _ = http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, text)
			c.Close()
		}
	}()
	return Dial(socket)
}

func TestAnswersOnTheWire(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for text, want := range map[string]string{
		ok + "Content-Length: 13\r\n\r\n{\"ops\":[\"a\"]}":                                                      "a",
		ok + "content-length:13\r\nConnection: close\r\n\r\n{\"ops\":[\"a\"]}":                                  "a",
		ok + "\r\n{\"ops\":[\"a\"]}":                                                                            "a",
		ok + "Transfer-Encoding: chunked\r\n\r\n7\r\n{\"ops\":\r\n6;x=y\r\n[\"a\"]}\r\n0\r\nTrailer: x\r\n\r\n": "a",
		"HTTP/1.0 200 OK\r\nContent-Length: 13\r\n\r\n{\"ops\":[\"a\"]}":                                        "a",
		ok + "Content-Length: 14\r\n\r\n{\"ops\":[\"a\"]}":                                                      "daemon at S: went away before it answered",
		ok + "Transfer-Encoding: chunked\r\n\r\nd\r\n{\"ops\":[\"a\"]}\r\n":                                     "daemon at S: went away before it answered",
		ok + "Transfer-Encoding: chunked\r\n\r\nd\r\n{\"ops\":[\"a\"]}x\r\n0\r\n\r\n":                           "daemon at S: not an answer of HTTP/1.1",
		ok + "Transfer-Encoding: chunked\r\n\r\n-1\r\n":                                                         "daemon at S: not an answer of HTTP/1.1",
		ok + "Content-Length: -1\r\n\r\n":                                                                       "daemon at S: not an answer of HTTP/1.1",
		ok + "Content-Le":                                                                                       "daemon at S: went away before it answered",
		"":                                                                                                      "daemon at S: went away before it answered",
		"SSH-2.0-OpenSSH\r\n":                                                                                   "daemon at S: not an answer of HTTP/1.1",
		"HTTP/1.1 20 OK\r\n\r\n":                                                                                "daemon at S: not an answer of HTTP/1.1",
		ok + "X: " + strings.Repeat("x", 10000) + "\r\n\r\n":                                                    "daemon at S: not an answer of HTTP/1.1",
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n":                                                   "daemon at S: answer: 404 Not Found",
	} {
		c := raw(t, text)
		ops, err := c.Diff(t.Context())
		got := strings.Join(ops.Ops, " ")
		if err != nil {
			got = strings.ReplaceAll(err.Error(), c.socket, "S")
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestConnectionsAreKeptAndLost: as many as there are requests at once; one that
// the daemon closed meanwhile is not used again.
func TestConnectionsAreKeptAndLost(t *testing.T) {
	var mu sync.Mutex
	conns := map[net.Conn]http.ConnState{}
	gate := make(chan struct{})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		IdleTimeout: 50 * time.Millisecond,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				<-gate
			}
			fmt.Fprint(w, `{"version":"x"}`)
		}),
		ConnState: func(c net.Conn, s http.ConnState) { mu.Lock(); defer mu.Unlock(); conns[c] = s },
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	c := Dial(socket)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := c.PruneNetworks(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for active := 0; active < 4; time.Sleep(time.Millisecond) {
		mu.Lock()
		active = len(conns)
		mu.Unlock()
	}
	close(gate)
	all.Wait()
	for range 5 {
		if _, err := c.Version(t.Context()); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	if len(conns) != 4 {
		t.Errorf("%d connections", len(conns))
	}
	mu.Unlock()
	for closed := 0; closed < 4; time.Sleep(time.Millisecond) {
		mu.Lock()
		closed = 0
		for _, s := range conns {
			if s == http.StateClosed {
				closed++
			}
		}
		mu.Unlock()
	}
	if _, err := c.PruneNetworks(t.Context()); err != nil {
		t.Errorf("after the daemon closed all: %v", err)
	}
	c.Close()
	if _, err := c.Version(t.Context()); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// TestHangUp: who does not wait any longer is told so, and so is the daemon.
func TestHangUp(t *testing.T) {
	began, told := make(chan struct{}), make(chan struct{})
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(told)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := c.Version(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-told
	if _, err := Dial(c.socket).Version(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("before it began: %v", err)
	}
}

// TestLargeBodies: what the daemon does not read to the end is answered all the same.
func TestLargeBodies(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":{"kind":"invalid","message":"too long"}}`)
			return
		}
		fmt.Fprintf(w, `{"ops":["%s %d"]}`, r.Header.Get("Content-Type"), len(b))
	})
	for size, want := range map[int]string{1 << 19: "application/yaml 524288", 2 << 20: "too long"} {
		ops, err := c.Apply(t.Context(), File{Text: make([]byte, size), ContentType: "application/yaml"})
		got := strings.Join(ops.Ops, " ")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%d bytes: %s, want %s", size, got, want)
		}
	}
}
