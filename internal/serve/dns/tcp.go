package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"github.com/miekg/dns"
)

// How long a client may say nothing, or not take its answer.
const tcpIdle = 10 * time.Second

// serveTCP accepts until the listener is closed. Connections beyond the sandbox's
// limit are closed at once.
func (l *listener) serveTCP() {
	for {
		conn, err := l.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			l.log.Warn("dns: accept", "sandbox", l.ns, "cause", err)
			time.Sleep(pause)
		case l.conns.Add(1) > maxConns:
			l.conns.Add(-1)
			conn.Close()
		default:
			l.work.Go(func() {
				defer l.conns.Add(-1)
				l.converse(conn)
			})
		}
	}
}

// converse answers one question after the other: each is two bytes of length and
// a message (RFC 1035, 4.2.2).
func (l *listener) converse(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(l.ctx, func() { conn.Close() })()
	var q question
	var size [2]byte
	for {
		conn.SetDeadline(time.Now().Add(tcpIdle))
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		msg := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, msg); err != nil {
			return
		}
		reply, f := l.view.Load().reply(nil, &q, msg, false, time.Now())
		if f != nil {
			reply = l.waitFor(f, &q)
		}
		if len(reply) == 0 {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

// tcpAsker has room for the one answer it is told.
type tcpAsker chan *entry

func (a tcpAsker) told(e *entry) { a <- e }

// waitFor returns the reply to a question that is forwarded, nothing if the
// listener is closed meanwhile.
func (l *listener) waitFor(f *forwarder, q *question) []byte {
	if !l.begin() {
		return q.empty(nil, dns.RcodeServerFailure)
	}
	defer l.asking.Add(-1)
	answer := make(tcpAsker, 1)
	f.ask(q, answer)
	select {
	case e := <-answer:
		return q.forwarded(nil, e, maxTCP)
	case <-l.ctx.Done():
		return nil
	}
}
