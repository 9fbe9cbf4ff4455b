package dockerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Daemon speaks to one dockerd by its socket. It keeps a connection alive and
// may be used concurrently.
type Daemon struct {
	http *http.Client
	root string // of its file system, as seen from here
}

// dial returns a client for the dockerd with a process id, as seen from here.
// The connection is made by the first call.
func dial(pid int) *Daemon {
	root := fmt.Sprintf("/proc/%d/root", pid)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", root+"/run/docker.sock")
	}
	return &Daemon{&http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}, root}
}

// Close gives the connection back. dockerd runs on.
func (d *Daemon) Close() { d.http.CloseIdleConnections() }

// version is of the API: what 20.10 speaks.
const version = "/v1.41"

// Call sends in as JSON, or as a tar archive if it is an io.Reader, or nothing
// if it is nil, and reads the answer into out, unless that is nil. A refusal is
// an error with Docker's message.
func (d *Daemon) Call(ctx context.Context, method, path string, in, out any) error {
	body, contentType, err := encode(in)
	if err != nil {
		return fmt.Errorf("dockerd: %s: request: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+version+path, body)
	if err != nil {
		return fmt.Errorf("dockerd: %w", err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := d.http.Do(req)
	if err != nil {
		return fmt.Errorf("dockerd: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("dockerd: %s: %w", path, refusal(resp))
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			return fmt.Errorf("dockerd: %s: answer: %w", path, err)
		}
	}
	_, _ = io.Copy(io.Discard, resp.Body) // read to the end, the connection can be used again
	return nil
}

// encode returns a request's body and what it is.
func encode(in any) (io.Reader, string, error) {
	switch in := in.(type) {
	case nil:
		return nil, "application/json", nil
	case io.Reader:
		return in, "application/x-tar", nil
	}
	b, err := json.Marshal(in)
	return bytes.NewReader(b), "application/json", err
}

func refusal(resp *http.Response) error {
	var e struct{ Message string }
	if json.NewDecoder(resp.Body).Decode(&e) != nil || e.Message == "" {
		return errors.New(resp.Status)
	}
	return errors.New(e.Message)
}
