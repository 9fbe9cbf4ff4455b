package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// askUDP sends a datagram and prints the answer.
func askUDP(args []string) error {
	f := flags("udp")
	timeout := f.Duration("timeout", 2*time.Second, "")
	from := f.Int("from", 0, "")
	size := f.Int("size", 0, "")
	to := argument(f, args)
	return exchange(to, *from, *size, *timeout, os.Stdout)
}

// exchange sends a datagram of some size at least from a port, 0 for any, and writes the answer.
func exchange(to string, from, size int, timeout time.Duration, w io.Writer) error {
	dialer := net.Dialer{Timeout: timeout, LocalAddr: &net.UDPAddr{Port: from}}
	c, err := dialer.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.Write(append([]byte("who am I?"), make([]byte, max(size-9, 0))...)); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	if err != nil {
		return err
	}
	_, err = w.Write(buf[:n])
	return err
}

// get prints the body of an HTTP answer; asked for from a port, 0 for any. A question with a
// body is answered once the server has all of that, up to 256 KiB (net/http).
func get(args []string) error {
	f := flags("get")
	timeout := f.Duration("timeout", 5*time.Second, "")
	from := f.Int("from", 0, "")
	size := f.Int("send", 0, "")
	url := argument(f, args)
	var dialer net.Dialer
	if *from != 0 {
		dialer.LocalAddr = &net.TCPAddr{Port: *from}
	}
	c := &http.Client{Timeout: *timeout, Transport: &http.Transport{DialContext: dialer.DialContext}}
	if *size == 0 {
		return fetch(c, url, os.Stdout)
	}
	return body(os.Stdout)(c.Post(url, "application/octet-stream", bytes.NewReader(make([]byte, *size))))
}

func fetch(c *http.Client, url string, w io.Writer) error {
	return body(w)(c.Get(url))
}

// body writes that of an answer.
func body(w io.Writer) func(*http.Response, error) error {
	return func(resp *http.Response, err error) error {
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		_, err = io.Copy(w, resp.Body)
		return err
	}
}

// stream keeps one connection busy, for a time or until SIGTERM, and measures its
// longest silence and how often one of its ends had to say something again.
func stream(args []string) error {
	f := flags("stream")
	length := f.Duration("for", 2*time.Second, "")
	every := f.Duration("every", 10*time.Millisecond, "")
	who := f.Bool("who", false, "")
	url := argument(f, args)
	last := time.Now()
	c, err := connect(url, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	end := time.Now().Add(*length)
	answers, gap := 0, time.Duration(0)
	for time.Now().Before(end) && ctx.Err() == nil {
		said, err := c.ask()
		if err != nil {
			return fmt.Errorf("after %d answers: %w", answers, err)
		}
		if answers++; answers == 1 && *who {
			fmt.Println("with", nameIn(said))
		}
		gap = max(gap, time.Since(last))
		last = time.Now()
		time.Sleep(*every)
	}
	fmt.Printf("answers %d\ngap %v\nresent %d\n", answers, gap.Round(time.Millisecond), resent(c.Conn)+c.resent)
	return nil
}

// connection is one TCP connection for many requests. A http.Transport would close
// one of its own accord and dial again, when on a busy machine it does not get to
// note within 50 ms that a request was written.
type connection struct {
	net.Conn
	request *http.Request
	answers *bufio.Reader
	resent  int // by the server
}

// connect opens one, in so long; 0: as long as the kernel tries.
func connect(url string, timeout time.Duration) (*connection, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	c, err := net.DialTimeout("tcp", net.JoinHostPort(req.URL.Hostname(), cmp.Or(req.URL.Port(), "80")), timeout)
	if err != nil {
		return nil, err
	}
	return &connection{c, req, bufio.NewReader(c), 0}, nil
}

// ask sends the request and returns the whole answer.
func (c *connection) ask() (string, error) {
	if err := c.request.Write(c); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(c.answers, c.request)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	c.resent, _ = strconv.Atoi(resp.Header.Get(headerResent)) // others do not say
	said, err := io.ReadAll(resp.Body)
	return string(said), err
}
