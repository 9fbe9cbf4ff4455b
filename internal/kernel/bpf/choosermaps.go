package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// chooserMaps are the maps of choices. A service has a ballot only while it has had all
// its seats, and seats that it needs no more go last; a seat that is missing is chosen
// in vain, and the host chooses then.
type chooserMaps struct {
	ballots  table[place, ballot]
	seats    table[seat, place]
	choosers table[chooser, home]
	sockets  *ebpf.Map // what each remembers: see chosen
}

// The maps' names, and their files'.
const (
	ballotsFile  = "sealane_ballots"
	seatsFile    = "sealane_seats"
	choosersFile = "sealane_chooser"
	socketsFile  = "sealane_sockets"
)

// Sizes. A hash pays 16 bytes for each entry that it may have.
const (
	maxServices = 1 << 16
	maxSeats    = 1 << 18
	maxChoosers = 1 << 14
)

func openChooserMaps(dir string) (*chooserMaps, error) {
	m, errs := &chooserMaps{}, make([]error, 4)
	m.ballots, errs[0] = openTable[place, ballot](dir, ballotsFile, maxServices)
	m.seats, errs[1] = openTable[seat, place](dir, seatsFile, maxSeats)
	m.choosers, errs[2] = openTable[chooser, home](dir, choosersFile, maxChoosers)
	m.sockets, errs[3] = openMap(dir, socketsSpec())
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// chooserPrograms are the files in the bpffs that hold their links, and what hangs on
// them. Those that tell what was asked for come first.
var chooserPrograms = []struct {
	file   string
	attach ebpf.AttachType
	code   func(*chooserMaps) asm.Instructions
}{
	{"sealane_peer4", ebpf.AttachCgroupInet4GetPeername, func(m *chooserMaps) asm.Instructions { return m.naming(false) }},
	{"sealane_peer6", ebpf.AttachCgroupInet6GetPeername, func(m *chooserMaps) asm.Instructions { return m.naming(true) }},
	{"sealane_conn4", ebpf.AttachCGroupInet4Connect, func(m *chooserMaps) asm.Instructions { return m.connecting(false) }},
	{"sealane_conn6", ebpf.AttachCGroupInet6Connect, func(m *chooserMaps) asm.Instructions { return m.connecting(true) }},
}

// attach attaches the programs to the root of the cgroup hierarchy, see attachAll.
func (m *chooserMaps) attach(dir string) error {
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range chooserPrograms {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: p.file, Type: ebpf.CGroupSockAddr, AttachType: p.attach, Instructions: p.code(m)})
		if err != nil {
			return fmt.Errorf("load %s: %w", p.file, err)
		}
		err = attach(root, dir, p.file, p.attach, prog)
		_ = prog.Close() // the link keeps it
		if err != nil {
			return fmt.Errorf("attach %s: %w", p.file, err)
		}
	}
	return nil
}

func (m *chooserMaps) close() error {
	var errs []error
	for _, c := range []*ebpf.Map{m.ballots.Map, m.seats.Map, m.choosers.Map, m.sockets} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// unpinChoosers takes the pins in a directory away.
func unpinChoosers(dir string) error {
	var links []string
	for _, p := range slices.Backward(chooserPrograms) {
		links = append(links, p.file)
	}
	return unpin(dir, links, []string{ballotsFile, seatsFile, choosersFile, socketsFile})
}

// socketsSpec is of a map of which each socket has its own part. The kernel wants to know
// what that consists of, and is content with bytes.
func socketsSpec() *ebpf.MapSpec {
	var c chosen
	octet := &btf.Int{Name: "byte", Size: 1}
	return &ebpf.MapSpec{
		Name: socketsFile, Type: ebpf.SkStorage, KeySize: 4, ValueSize: uint32(len(c)), Flags: unix.BPF_F_NO_PREALLOC,
		Key: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Value: &btf.Array{Index: octet, Type: octet, Nelems: uint32(len(c))},
	}
}

// openTable opens a map of choices, or makes it.
func openTable[K comparable, V any](dir, name string, size uint32) (table[K, V], error) {
	var k K
	var v V
	m, err := openMap(dir, &ebpf.MapSpec{
		Name: name, Type: ebpf.Hash, KeySize: uint32(binary.Size(k)), ValueSize: uint32(binary.Size(v)),
		MaxEntries: size, Flags: unix.BPF_F_NO_PREALLOC,
	})
	return table[K, V]{m}, err
}
