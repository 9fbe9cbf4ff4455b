package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// probe tries many targets at once: silence of all costs one time-out.
func probe(args []string) error {
	f := flags("probe")
	timeout := f.Duration("timeout", 2*time.Second, "")
	f.Parse(args)
	answers := make([]string, f.NArg())
	var all sync.WaitGroup
	for i, target := range f.Args() {
		all.Go(func() { answers[i] = try(target, *timeout) })
	}
	all.Wait()
	for i, target := range f.Args() {
		fmt.Println(target, answers[i])
	}
	return nil
}

// try returns who answers and whom it sees, or "no".
func try(target string, timeout time.Duration) string {
	var got bytes.Buffer
	if err := ask(target, timeout, &got); err != nil {
		return "no"
	}
	client, name := "-", "-"
	for line := range strings.Lines(got.String()) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key {
		case "client":
			client = value
		case "name":
			name = value
		}
	}
	return client + " " + name
}

func ask(target string, timeout time.Duration, w io.Writer) error {
	proto, to, _ := strings.Cut(target, "://")
	switch proto {
	case "tcp":
		c := &http.Client{Timeout: timeout, Transport: &http.Transport{}}
		return fetch(c, "http://"+strings.ReplaceAll(to, "%", "%25")+"/", w)
	case "udp":
		return exchange(to, 0, 0, timeout, w)
	case "ping":
		return pingOnce(to, 56, timeout)
	}
	return errors.New("want tcp, udp or ping")
}
