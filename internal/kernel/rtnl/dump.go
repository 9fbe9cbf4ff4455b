package rtnl

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// errInterrupted is a dump during which something changed: it may lack objects.
var errInterrupted = errors.New("dump was interrupted by changes")

// dumpTries is how often an interrupted dump is tried. Even on a busy host a
// dump of a thousand links is rarely interrupted twice.
const dumpTries = 10

// dump sends a request for a list, made by request, and returns all answers
// that parse accepts. parse must not keep the body it is given.
func dump[T any](ctx context.Context, s *socket, request func() *message, parse func([]byte) (T, bool)) ([]T, error) {
	for try := 1; ; try++ {
		all, err := dumpOnce(s, request(), parse)
		if !errors.Is(err, errInterrupted) || try == dumpTries {
			return all, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

func dumpOnce[T any](s *socket, m *message, parse func([]byte) (T, bool)) ([]T, error) {
	s.seq++
	m.seal(s.seq, unix.NLM_F_DUMP)
	if err := s.write(m.buf); err != nil {
		return nil, err
	}
	var all []T
	var failed error
	for done := false; !done; {
		err := s.read(func(h header, body []byte) error {
			if h.seq != s.seq {
				return nil
			}
			if h.flags&unix.NLM_F_DUMP_INTR != 0 {
				failed = errInterrupted
			}
			if h.typ == unix.NLMSG_DONE || h.typ == unix.NLMSG_ERROR {
				done = true
				return answer(h, body)
			}
			if o, ok := parse(body); ok {
				all = append(all, o)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, failed
}
