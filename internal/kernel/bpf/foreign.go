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

// conflict returns an error about the first socket of found that is in h's
// way, or nil.
func conflict(h kstate.Hold, found []socket) error {
	for _, s := range found {
		if s.proto == h.Proto && h.First <= s.port && s.port <= h.Last && clash(h.Addr.Unmap(), s) {
			return &inUse{h.Proto, netip.AddrPortFrom(s.addr, s.port), owner(s.inode)}
		}
	}
	return nil
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
	want := fmt.Sprintf("socket:[%d]", inode)
	for _, pid := range pids {
		if !hasFile(pid, want) {
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err == nil {
			return fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), pid)
		}
	}
	return "another program"
}

// hasFile reports whether a process has a file open that /proc shows as name.
func hasFile(pid int, name string) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return false // gone, or none of our business
	}
	return slices.ContainsFunc(files, func(f os.DirEntry) bool {
		to, err := os.Readlink(dir + f.Name())
		return err == nil && to == name
	})
}
