package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"syscall"

	"github.com/sealane/sealane/internal/model"
)

// Client talks to one daemon. It keeps one connection alive and may be used
// concurrently. Errors that the daemon answered are *model.Error.
type Client struct {
	socket string
	over   *transport
}

// Dial returns a client for the daemon at a unix socket. The connection is
// made by the first call.
func Dial(socket string) *Client {
	return &Client{socket: socket, over: &transport{socket: socket}}
}

// Close gives the connection back.
func (c *Client) Close() { c.over.close() }

// maxSocket is the longest path of a socket in bytes (unix(7)).
const maxSocket = 107

// NoDaemonError says that nobody listens at a socket.
type NoDaemonError struct{ Socket string }

// Error says where, and what to do.
func (e *NoDaemonError) Error() string {
	return fmt.Sprintf("no daemon at %s: start one with %q", e.Socket, "sealane daemon")
}

// call sends in as JSON, unless it is nil, and reads the answer into out,
// unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("request: %w", err)
		}
	}
	return c.send(ctx, method, path, "application/json", body, out)
}

// ask is call for an answer of type T.
func ask[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	err := c.call(ctx, method, path, in, &out)
	return out, err
}

func (c *Client) send(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	a, err := c.over.do(ctx, method, path, contentType, body)
	if err != nil {
		return c.unreachable(err)
	}
	if a.status >= 400 {
		return c.refusal(a)
	}
	if out != nil {
		if err := json.NewDecoder(bytes.NewReader(a.body)).Decode(out); err != nil {
			return fmt.Errorf("daemon at %s: answer: %w", c.socket, err)
		}
	}
	return nil
}

// refusal reads the error of an answer.
func (c *Client) refusal(a answer) error {
	var e ErrorBody
	if err := json.NewDecoder(bytes.NewReader(a.body)).Decode(&e); err != nil || e.Error.Message == "" {
		return fmt.Errorf("daemon at %s: answer: %s", c.socket, a.reason)
	}
	return e.Error.err()
}

// unreachable says in plain words why there was no answer.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &NoDaemonError{c.socket}
	case errors.Is(err, fs.ErrPermission):
		return &model.Error{Kind: model.Denied, Ref: "socket " + c.socket, Err: errors.New("permission denied"), Hint: whoMay(c.socket)}
	case errors.Is(err, syscall.EINVAL) && len(c.socket) > maxSocket:
		return fmt.Errorf("socket %s: %d bytes, at most %d", c.socket, len(c.socket), maxSocket)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("daemon at %s: went away before it answered", c.socket)
	}
	return fmt.Errorf("daemon at %s: %w", c.socket, err)
}

// query makes a query of one parameter's values, or nothing.
func query(name string, values []string) string {
	if len(values) == 0 {
		return ""
	}
	return "?" + url.Values{name: values}.Encode()
}

// segment escapes a reference for use as one segment of a path. A reference
// may contain slashes (netns:PATH) and must not be taken for "." or "..".
func segment(ref string) string {
	if strings.Trim(ref, ".") == "" {
		return strings.ReplaceAll(ref, ".", "%2E")
	}
	return url.PathEscape(ref)
}
