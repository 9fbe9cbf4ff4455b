package udptun

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/serve/udptun/shortcut"
)

// receiver carries from the peers of one family to a queue of the device.
type receiver struct {
	*Tunnel
	udp, tun int // descriptors
	received *counters
	in       message
	buf      []byte
	row      run
	out      message
	vnet     [vnetLen]byte
	fatal    error // the device is gone
}

func newReceiver(t *Tunnel, q *queue, family int) *receiver {
	return &receiver{Tunnel: t, udp: q.udp[family], tun: q.tun, received: &q.received[family], buf: make([]byte, maxPacket+1)}
}

// run carries until the tunnel is closed, or its device deleted.
func (r *receiver) run() error { return r.stopper.serve(r.udp, r.turn) }

// turn takes what there is to receive, up to a number of messages.
func (r *receiver) turn() (more bool, err error) {
	for range perTurn {
		n, size, err := r.in.receive(r.udp, r.buf)
		switch {
		case err == unix.EAGAIN:
			return false, r.fatal
		case err == unix.EMSGSIZE:
			r.received.drop(Malformed, 1)
		case err != nil: // is news of the socket, not its end
		default:
			r.datagrams(nameAddr(&r.in.name), r.buf[:n], size)
		}
	}
	return true, r.fatal
}

// datagrams writes the packets of one sender, those of a stream as one.
func (r *receiver) datagrams(from netip.Addr, b []byte, size int) {
	table := r.table.Load()
	if len(b) == 0 && table.hosts[from] != nil {
		r.vouch(table.hosts[from], shortcut.In)
	}
	for len(b) > 0 {
		n := min(size, len(b))
		r.datagram(table, from, b[:n])
		b = b[n:]
	}
	r.flush()
}

func (r *receiver) datagram(t *table, from netip.Addr, b []byte) {
	p, ok := parse(b, false)
	if !ok {
		r.received.drop(Malformed, 1)
		return
	}
	if r.row.count > 0 && r.row.add(&p) {
		return // from whom and to whom the first was, which was let in
	}
	r.flush()
	if why, ok := r.admit(t, from, &p); !ok {
		r.received.drop(why, 1)
		return
	}
	r.row.start(&p, r.offload.uso)
}

// admit says whether a packet may come in, or why not.
func (r *receiver) admit(t *table, from netip.Addr, p *packet) (Drop, bool) {
	switch of := t.find(p.src); {
	case of != nil && of.Addr == from:
		r.vouch(of.host, shortcut.In)
	case t.hosts[from] != nil:
		return Spoofed, false
	default:
		return Stranger, false
	}
	return NotOurs, r.ours(p.dst)
}

// flush writes the run to the device and empties it.
func (r *receiver) flush() {
	u := &r.row
	if u.count == 0 {
		return
	}
	u.finish().put(r.vnet[:])
	r.out.setBuffer(0, r.vnet[:])
	n := 2
	if u.count == 1 {
		r.out.setBuffer(1, u.first.data)
	} else {
		r.out.setBuffer(1, u.first.data[:u.header+len(u.payloads[0])])
		for _, p := range u.payloads[1:u.count] {
			r.out.setBuffer(n, p)
			n++
		}
	}
	r.wrote(r.out.write(r.tun, n))
}

// wrote counts the run and empties it.
func (r *receiver) wrote(err error) {
	u := &r.row
	if err == nil {
		r.received.carried(u.count, u.total+(u.count-1)*u.header)
	} else {
		r.received.drop(Unwritten, u.count)
	}
	if err == unix.EBADFD {
		r.fatal = os.NewSyscallError("write", err)
	}
	u.count = 0
}
