// Package xtables reads the filters of iptables-legacy, which are not in
// nftables. It changes nothing there.
package xtables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// family is where a family's tables are (include/uapi/linux/netfilter_ipv4/ip_tables.h
// and netfilter_ipv6/ip6_tables.h).
type family struct {
	name   string
	names  string // the tables that programs have made
	domain int
	level  int
	head   int  // size of what an entry begins with, struct ipt_ip or ip6t_ip6
	flags  int  // where in that the flags are
	leaves byte // the flag IPT_F_GOTO or IP6T_F_GOTO
	entry  int  // size of struct ipt_entry or ip6t_entry
}

var families = []family{
	{"ip", "/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.SOL_IP, 84, 82, 0x02, 112},
	{"ip6", "/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, 136, 131, 0x04, 168},
}

const (
	getInfo    = 64 // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
	getEntries = 65 // IPT_SO_GET_ENTRIES, IP6T_SO_GET_ENTRIES
	nameLen    = 32 // XT_TABLE_MAXNAMELEN
	infoLen    = 84 // struct ipt_getinfo
	listHead   = 40 // struct ipt_get_entries, without the entries
	tries      = 5  // a table that changes meanwhile is asked for again
)

// Filters returns the chains INPUT and FORWARD of iptables-legacy's tables
// "filter" in the namespace of this thread, in no order, none where no program
// has made them. Ends says what becomes of packets that bear mark, or no
// condition decides.
func Filters(mark uint32) ([]kstate.Filter, error) {
	var out []kstate.Filter
	for _, f := range families {
		t, err := f.read()
		if err != nil {
			return nil, fmt.Errorf("%s table filter of iptables-legacy: %w", f.name, err)
		}
		if t != nil {
			t.mark = mark
			out = append(out, t.filters()...)
		}
	}
	return out, nil
}

// read returns the table filter, or nil. To ask for one that is not there would
// make it.
func (f family) read() (*table, error) {
	names, err := os.ReadFile(f.names)
	if errors.Is(err, os.ErrNotExist) || err == nil && !slices.Contains(strings.Fields(string(names)), "filter") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(s)
	for range tries {
		var t *table
		if t, err = f.ask(s); !errors.Is(err, unix.EAGAIN) {
			return t, err
		}
	}
	return nil, err
}

func (f family) ask(s int) (*table, error) {
	info := make([]byte, infoLen)
	copy(info, "filter")
	if err := getsockopt(s, f.level, getInfo, info); err != nil {
		return nil, err
	}
	word := func(at int) uint32 { return binary.NativeEndian.Uint32(info[at:]) }
	t := &table{family: f}
	for hook := range t.first {
		t.first[hook] = int(word(nameLen + 4 + 4*hook))
	}
	size := word(infoLen - 4)
	list := make([]byte, listHead+int(size))
	copy(list, "filter")
	binary.NativeEndian.PutUint32(list[nameLen:], size)
	if err := getsockopt(s, f.level, getEntries, list); err != nil {
		return nil, err
	}
	t.entries = list[listHead:]
	return t, nil
}

func getsockopt(s, level, option int, b []byte) error {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
