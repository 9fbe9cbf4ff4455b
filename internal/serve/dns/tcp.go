package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
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
			l.accept.Say("sandbox", l.ns, "cause", err)
			time.Sleep(pause)
		case l.conns.Add(1) > maxConns:
			l.conns.Add(-1)
			l.much.Say("sandbox", l.ns, "connections", maxConns)
			conn.Close()
		default:
			l.work.Go(func() {
				defer l.conns.Add(-1)
				l.converse(conn)
			})
		}
	}
}

// converse answers questions, each two bytes of length and a message (RFC 1035,
// 4.2.2). Answers from elsewhere are sent as they come, in any order (RFC 7766,
// 6.2.1.1).
func (l *listener) converse(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(l.ctx, func() { conn.Close() })()
	var open sync.WaitGroup
	defer open.Wait() // who asks no more still wants the answers
	var q question
	for {
		msg, err := receive(conn)
		if err != nil {
			return
		}
		reply, f := l.view.Load().reply(nil, &q, msg, false, time.Now())
		switch admitted := l.count(f, &q); {
		case admitted:
			asked := q
			open.Go(func() {
				defer l.asking.Add(-1) // not before it is sent: who reads nothing has not many
				send(conn, l.waitFor(f, &asked))
			})
			continue
		case f != nil:
			reply = q.empty(nil, dns.RcodeServerFailure)
		case len(reply) == 0:
			return
		}
		if send(conn, reply) != nil {
			return
		}
	}
}

// receive reads a message.
func receive(conn net.Conn) ([]byte, error) {
	conn.SetReadDeadline(time.Now().Add(tcpIdle))
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, msg)
	return msg, err
}

// send sends a message, if there is one. Several at once do not mix.
func send(conn net.Conn, msg []byte) error {
	if len(msg) == 0 {
		return nil
	}
	conn.SetWriteDeadline(time.Now().Add(tcpIdle))
	_, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}

// tcpAsker has room for the one answer it is told.
type tcpAsker chan *entry

func (a tcpAsker) told(e *entry) { a <- e }

// waitFor returns the reply to a question that is forwarded, nothing if the
// listener is closed meanwhile.
func (l *listener) waitFor(f *forwarder, q *question) []byte {
	answer := make(tcpAsker, 1)
	f.ask(q, answer)
	select {
	case e := <-answer:
		return q.forwarded(nil, e, maxTCP)
	case <-l.ctx.Done():
		return nil
	}
}
