package ovsdb

import (
	"context"
	"time"
)

// Watch sends a few words whenever somebody else changed something of ours, a
// bridge came or went, or Open vSwitch ended or is back, until ctx is done; then
// it closes the channel. While nothing of ours waits for Open vSwitch, nothing
// runs.
func (c *Conn) Watch(ctx context.Context) (<-chan string, error) {
	out := make(chan string, 1)
	go func() {
		defer close(out)
		look := time.NewTimer(0)
		look.Stop()
		for {
			what := ""
			select {
			case <-ctx.Done():
				return
			case what = <-c.news:
			case <-c.lost:
				look.Reset(returnTime)
				continue
			case <-look.C:
				if !c.back() {
					look.Reset(returnTime)
					continue
				}
				what = "Open vSwitch is back"
			}
			select {
			case out <- what:
			default: // one waits already
			}
		}
	}()
	return out, nil
}

// back reports whether both programs live.
func (c *Conn) back() bool {
	alive := false
	err := c.with(func(s *session) (err error) {
		alive, err = c.switching(s)
		return err
	})
	return err == nil && alive
}
