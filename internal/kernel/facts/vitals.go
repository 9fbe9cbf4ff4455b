package facts

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Vitals is how much of what a host has little of is in use. What the kernel does not tell
// is zero.
type Vitals struct {
	Connections, MostConnections int // that conntrack knows in this namespace, and at most
	// Neighbours are the entries of all namespaces, by family ("IPv4", "IPv6"): the kernel
	// has one table of each.
	Neighbours map[string]Table
	Files      Table  // open files of this process, and how many it may have
	StateDir   Volume // where the store is
}

// Table is how full a table is.
type Table struct{ Used, Most int }

// Volume is a directory of which some has to be free.
type Volume struct {
	Path       string
	Free, Size uint64 // bytes
	Err        error  // nothing can be written there
}

// ReadVitals reads them; stateDir is where the store is.
func ReadVitals(stateDir string) Vitals {
	v := Vitals{
		Connections:     number("/proc/sys/net/netfilter/nf_conntrack_count"),
		MostConnections: number("/proc/sys/net/netfilter/nf_conntrack_max"),
		Neighbours: map[string]Table{
			"IPv4": {entries("/proc/net/stat/arp_cache"), number("/proc/sys/net/ipv4/neigh/default/gc_thresh3")},
			"IPv6": {entries("/proc/net/stat/ndisc_cache"), number("/proc/sys/net/ipv6/neigh/default/gc_thresh3")},
		},
		StateDir: volume(stateDir),
	}
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		v.Files.Used = len(list)
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		v.Files.Most = int(min(limit.Cur, 1<<30))
	}
	return v
}

// number reads a file with one number; 0 if there is none.
func number(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// entries reads the first column, in hex, of the second line.
func entries(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	if !lines.Scan() || !lines.Scan() {
		return 0
	}
	column, _, _ := strings.Cut(lines.Text(), " ")
	n, _ := strconv.ParseUint(column, 16, 31)
	return int(n)
}

// volume tries whether something can be written in a directory.
func volume(dir string) Volume {
	v := Volume{Path: dir}
	var st unix.Statfs_t
	if v.Err = unix.Statfs(dir, &st); v.Err != nil {
		return v
	}
	v.Free, v.Size = st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize)
	path := filepath.Join(dir, ".doctor")
	v.Err = os.WriteFile(path, []byte("sealane doctor\n"), 0o600)
	if err := os.Remove(path); v.Err == nil && !errors.Is(err, fs.ErrNotExist) {
		v.Err = err
	}
	return v
}

// Forwarding reports whether the host passes packets on, by family ("IPv4", "IPv6"); a
// family that the kernel does not have is not there.
func Forwarding() map[string]bool {
	on := map[string]bool{}
	for family, path := range map[string]string{"IPv4": "/proc/sys/net/ipv4/ip_forward", "IPv6": "/proc/sys/net/ipv6/conf/all/forwarding"} {
		if _, err := os.Stat(path); err == nil {
			on[family] = number(path) != 0
		}
	}
	return on
}
