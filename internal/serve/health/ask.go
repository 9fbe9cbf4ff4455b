package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// maxHeader is how much of the head of an answer is read, in bytes.
const maxHeader = 64 << 10

// ask asks a backend once, and says why it does not serve.
func ask(ctx context.Context, c Check) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	put := connect
	if c.Path != "" {
		put = get
	}
	err := put(ctx, c)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %s", c.Timeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		err = syscall.ECONNREFUSED
	}
	return fmt.Errorf("%s to %s: %w", &c.Health, c.To, err)
}

// connect opens a connection and closes it.
func connect(ctx context.Context, c Check) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.To.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// get asks for the path. A redirection is an answer, and its body none of ours.
func get(ctx context.Context, c Check) error {
	u, err := url.ParseRequestURI(c.Path)
	if err != nil {
		return err
	}
	u.Scheme, u.Host = "http", c.To.String()
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "sealane-health")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close() // and with it the connection
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}
