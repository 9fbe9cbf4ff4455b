package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// rate measures how fast an answer's body comes in. It is to last longer than
// that is looked at.
func rate(args []string) error {
	f := flags("rate")
	length := f.Duration("for", 3*time.Second, "")
	url := argument(f, args)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	begun := time.Now()
	time.AfterFunc(*length, cancel)
	n, err := io.Copy(io.Discard, resp.Body)
	if took := time.Since(begun); took < *length && err == nil {
		fmt.Printf("kbit %.0f\n", float64(n)*8/1000/took.Seconds()) // all of it, in less time
		return nil
	}
	if !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Printf("kbit %.0f\n", float64(n)*8/1000/length.Seconds())
	return nil
}
