package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// askUDP sends a datagram and prints the answer.
func askUDP(args []string) error {
	f := flags("udp")
	timeout := f.Duration("timeout", 2*time.Second, "")
	from := f.Int("from", 0, "")
	to := argument(f, args)
	return exchange(to, *from, *timeout, os.Stdout)
}

// exchange sends a datagram from a port, 0 for any, and writes the answer.
func exchange(to string, from int, timeout time.Duration, w io.Writer) error {
	dialer := net.Dialer{Timeout: timeout, LocalAddr: &net.UDPAddr{Port: from}}
	c, err := dialer.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("who am I?")); err != nil {
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

// get prints the body of an HTTP answer.
func get(args []string) error {
	f := flags("get")
	timeout := f.Duration("timeout", 5*time.Second, "")
	url := argument(f, args)
	return fetch(&http.Client{Timeout: *timeout, Transport: &http.Transport{}}, url, os.Stdout)
}

func fetch(c *http.Client, url string, w io.Writer) error {
	resp, err := c.Get(url)
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

// stream keeps one connection busy and measures its longest silence.
func stream(args []string) error {
	f := flags("stream")
	length := f.Duration("for", 2*time.Second, "")
	every := f.Duration("every", 10*time.Millisecond, "")
	url := argument(f, args)
	client := &http.Client{Transport: &http.Transport{DialContext: dialOnce()}}
	end := time.Now().Add(*length)
	last, answers, gap := time.Now(), 0, time.Duration(0)
	for time.Now().Before(end) {
		if err := fetch(client, url, io.Discard); err != nil {
			return fmt.Errorf("after %d answers: %w", answers, err)
		}
		answers++
		gap = max(gap, time.Since(last))
		last = time.Now()
		time.Sleep(*every)
	}
	fmt.Printf("answers %d\ngap %v\n", answers, gap.Round(time.Millisecond))
	return nil
}

// dialOnce returns a dial function that works once, so that a broken
// connection cannot be hidden by a new one.
func dialOnce() func(context.Context, string, string) (net.Conn, error) {
	var used atomic.Bool
	var d net.Dialer
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errors.New("the connection broke")
		}
		return d.DialContext(ctx, network, addr)
	}
}
