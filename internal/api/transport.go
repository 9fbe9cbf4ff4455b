package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// The client's own HTTP/1.1 (RFC 9112), which is all that a unix socket needs:
// net/http takes 0.4 ms to load and three goroutines for a request, in a program
// that is executed for each container.

// Methods of the API (RFC 9110).
const (
	methodGet    = "GET"
	methodPost   = "POST"
	methodPut    = "PUT"
	methodPatch  = "PATCH"
	methodDelete = "DELETE"
)

// transport makes requests at a unix socket.
type transport struct {
	socket string

	mu   sync.Mutex // protects the following
	idle []*conn    // kept for the next request
}

// conn is a connection, with one request at a time. Its socket blocks: package net, and
// the poller of the runtime that it waits by, take longer to load than to be asked.
type conn struct {
	*os.File
	in *bufio.Reader
}

// connect returns a connection to a daemon.
func connect(socket string) (*conn, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket}) // at once, or not at all
	if err == nil {
		err = syscall.SetNonblock(fd, false)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	f := os.NewFile(uintptr(fd), socket)
	return &conn{f, bufio.NewReader(f)}, nil
}

// hangUp ends what waits for the other side.
func (c *conn) hangUp() {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}
}

// answer is the response to a request.
type answer struct {
	status int
	reason string // as after the status on its line
	body   []byte
}

func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.idle {
		c.Close()
	}
	t.idle = nil
}

// do makes a request. When ctx is done meanwhile its connection is closed, which
// tells the daemon.
func (t *transport) do(ctx context.Context, method, path, contentType string, body []byte) (answer, error) {
	if err := ctx.Err(); err != nil {
		return answer{}, err
	}
	c, err := t.take()
	if err != nil {
		return answer{}, err
	}
	stop := context.AfterFunc(ctx, c.hangUp)
	a, again, err := c.do(method, path, contentType, body)
	if !stop() && ctx.Err() != nil && err != nil {
		err = ctx.Err()
	}
	if err != nil || !again || ctx.Err() != nil {
		c.Close()
		return a, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = append(t.idle, c)
	return a, nil
}

// take returns a connection that nobody uses.
func (t *transport) take() (*conn, error) {
	for {
		c := t.kept()
		switch {
		case c == nil:
			return connect(t.socket)
		case c.quiet():
			return c, nil
		}
		c.Close()
	}
}

func (t *transport) kept() *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.idle)
	if n == 0 {
		return nil
	}
	c := t.idle[n-1]
	t.idle = t.idle[:n-1]
	return c
}

// quiet reports whether the daemon has left a connection open, and said nothing.
func (c *conn) quiet() bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && quiet
}

// do sends a request and reads the answer, and whether the connection can be used
// again.
func (c *conn) do(method, path, contentType string, body []byte) (a answer, again bool, err error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s /%s%s HTTP/1.1\r\nHost: sealane\r\n", method, Version, path)
	if body != nil {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", contentType, len(body))
	} else if method != methodGet {
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	_, unsent := c.Write(b.Bytes())
	a, again, err = c.read() // a daemon that has read enough answers and hangs up
	if err != nil && unsent != nil {
		err = unsent
	}
	return a, again && unsent == nil, err
}

var errMalformed = errors.New("not an answer of HTTP/1.1")

// read reads an answer.
func (c *conn) read() (a answer, again bool, err error) {
	line, err := c.line()
	if err != nil {
		return a, false, err
	}
	version, reason, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(reason, " ")
	if a.status, err = strconv.Atoi(code); err != nil || !strings.HasPrefix(version, "HTTP/1.") || len(code) != 3 {
		return a, false, errMalformed
	}
	a.reason = reason
	length, chunked, again := -1, false, true
	for {
		if line, err = c.line(); err != nil {
			return a, false, cut(err)
		}
		if line == "" {
			break
		}
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); strings.ToLower(key) {
		case "content-length":
			if length, err = strconv.Atoi(value); err != nil || length < 0 {
				return a, false, errMalformed
			}
		case "transfer-encoding":
			chunked = strings.EqualFold(value, "chunked")
		case "connection":
			again = !strings.EqualFold(value, "close")
		}
	}
	switch {
	case a.status == 204 || a.status == 304: // neither has a body
	case chunked:
		a.body, err = c.chunks()
	case length >= 0:
		a.body = make([]byte, length)
		_, err = io.ReadFull(c.in, a.body)
	default:
		again = false
		a.body, err = io.ReadAll(c.in)
	}
	return a, again, cut(err)
}

// line reads one line of the head.
func (c *conn) line() (string, error) {
	b, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errMalformed
	}
	return strings.TrimRight(string(b), "\r\n"), err
}

// chunks reads a body in chunks (RFC 9112, section 7.1):
//
//	SIZE in hex [; …] CRLF  DATA CRLF  …  0 CRLF  trailers CRLF
func (c *conn) chunks() ([]byte, error) {
	var body bytes.Buffer
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 31)
		if err != nil {
			return nil, errMalformed
		}
		if n == 0 {
			break
		}
		if _, err := io.CopyN(&body, c.in, int64(n)); err != nil {
			return nil, err
		}
		if line, err := c.line(); err != nil || line != "" {
			return nil, errors.Join(err, errMalformed)
		}
	}
	for {
		if line, err := c.line(); err != nil || line == "" {
			return body.Bytes(), err
		}
	}
}

// cut is the error of an answer that ends before it should.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
