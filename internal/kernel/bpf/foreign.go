package bpf

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// inUse is a port that a foreign socket has.
type inUse struct {
	proto string
	at    netip.AddrPort
	who   string
}

// Error names the port, who has it and where.
func (e *inUse) Error() string {
	s := fmt.Sprintf("port %d/%s is held by %s", e.at.Port(), e.proto, e.who)
	if e.at.Addr().IsValid() {
		s += " on " + e.at.String()
	}
	return s
}

// Unwrap makes it a kernel.ErrInUse.
func (e *inUse) Unwrap() error { return kernel.ErrInUse }

// sight is what one look at the sockets showed.
type sight struct {
	sockets []socket        // in order of ports
	spared  uint16          // see Holder.Spare
	own     map[uint32]bool // inodes of our own; nil until somebody asks
}

// conflict returns an error about the first socket that is in h's way, or nil.
func (s *sight) conflict(h kstate.Hold) error {
	for _, found := range s.inWay(h) {
		if !s.ours(found) {
			return &inUse{h.Proto, netip.AddrPortFrom(found.addr, found.port), owner(found.inode)}
		}
	}
	return nil
}

// inWay returns the sockets that are in h's way, whoever has them.
func (s *sight) inWay(h kstate.Hold) (out []socket) {
	at, _ := slices.BinarySearchFunc(s.sockets, h.First, func(s socket, port uint16) int { return cmp.Compare(s.port, port) })
	for ; at < len(s.sockets) && s.sockets[at].port <= h.Last; at++ {
		if found := s.sockets[at]; found.proto == h.Proto && clash(h.Addr.Unmap(), found) {
			out = append(out, found)
		}
	}
	return out
}

// ours reports whether a socket is one of this process that is in nobody's way.
func (s *sight) ours(of socket) bool {
	if of.port != s.spared {
		return false
	}
	if s.own == nil {
		s.own = ownSockets()
	}
	return s.own[of.inode]
}

// ownSockets returns the inodes of all sockets of this process.
func ownSockets() map[uint32]bool {
	own := map[uint32]bool{}
	for _, name := range openFiles("self") {
		var inode uint32
		if _, err := fmt.Sscanf(name, socketName, &inode); err == nil {
			own[inode] = true
		}
	}
	return own
}

// clash reports whether a hold on a and a socket on one port are in each
// other's way: their addresses are equal, or one is a wildcard that takes the
// other's family. The wildcard [::] takes IPv4 too, unless its socket says no.
func clash(a netip.Addr, s socket) bool {
	dual := s.addr.IsUnspecified() && s.addr.Is6() && !s.only6
	switch {
	case !a.IsValid() || a == s.addr:
		return true
	case a.Is4() && dual:
		return true
	case a.BitLen() != s.addr.BitLen():
		return false
	}
	return a.IsUnspecified() || s.addr.IsUnspecified()
}

// owner names the process that has a socket, the one with the lowest number
// when several share it. It looks at every open file of the machine and is
// only for errors.
func owner(inode uint32) string {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return "another program"
	}
	var pids []int
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.SortFunc(pids, cmp.Compare[int])
	want := fmt.Sprintf(socketName, inode)
	for _, pid := range pids {
		if !slices.Contains(openFiles(strconv.Itoa(pid)), want) {
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil {
			return fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), pid)
		}
	}
	return "another program"
}

// socketName is how /proc shows an open socket.
const socketName = "socket:[%d]"

// openFiles returns what a process has open, as /proc shows it: nothing if the
// process is gone or none of our business.
func openFiles(pid string) (names []string) {
	dir := "/proc/" + pid + "/fd/"
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, f := range files {
		if name, err := os.Readlink(dir + f.Name()); err == nil {
			names = append(names, name)
		}
	}
	return names
}
