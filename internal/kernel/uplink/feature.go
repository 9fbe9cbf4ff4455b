package uplink

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// featureState is how a device has one of the features that ethtool(8) -k shows.
type featureState struct {
	free   bool // it can be changed
	wanted bool // somebody asked for it, or its driver did
	active bool
}

// features asks for the features of devices of the thread's namespace.
type features struct{ fd int }

func openFeatures() (features, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return features{fd}, err
}

func (f features) Close() error { return unix.Close(f.fd) }

// interfaceRequest is struct ifreq of include/uapi/linux/if.h with a pointer.
type interfaceRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte // of the union
}

// ask hands a command of include/uapi/linux/ethtool.h to the kernel, which answers in
// its place.
func (f features) ask(dev string, command []byte) error {
	req := interfaceRequest{data: unsafe.Pointer(&command[0])}
	copy(req.name[:unix.IFNAMSIZ-1], dev)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(f.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}

// words is a command that begins with these.
func words(w ...uint32) []byte {
	var b []byte
	for _, x := range w {
		b = binary.NativeEndian.AppendUint32(b, x)
	}
	return b
}

// Of include/uapi/linux/ethtool.h, not in x/sys.
const (
	ethSSFeatures = 4  // ETH_SS_FEATURES
	ethGStringLen = 32 // ETH_GSTRING_LEN
)

// names returns the names of the features (net/ethtool/common.c) in the order of their
// numbers, which each kernel has its own of.
//
//	ethtool_sset_info  cmd, 0, mask (64 bits), count…
//	ethtool_gstrings   cmd, set, count, names of 32 bytes…
func (f features) names(dev string) ([]string, error) {
	info := words(unix.ETHTOOL_GSSET_INFO, 0)
	info = append(binary.NativeEndian.AppendUint64(info, 1<<ethSSFeatures), 0, 0, 0, 0)
	if err := f.ask(dev, info); err != nil {
		return nil, err
	}
	n := int(binary.NativeEndian.Uint32(info[16:]))
	header := words(unix.ETHTOOL_GSTRINGS, ethSSFeatures, uint32(n))
	table := append(header, make([]byte, n*ethGStringLen)...)
	if err := f.ask(dev, table); err != nil {
		return nil, err
	}
	out := make([]string, n)
	for i := range out {
		out[i] = text(table[len(header)+i*ethGStringLen:][:ethGStringLen])
	}
	return out, nil
}

// of returns the features of a device by name; none if it tells none.
//
//	ethtool_gfeatures  cmd, blocks, (available, requested, active, never changed)…
func (f features) of(dev string) (map[string]featureState, error) {
	names, err := f.names(dev)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	blocks := (len(names) + 31) / 32
	b := append(words(unix.ETHTOOL_GFEATURES, uint32(blocks)), make([]byte, blocks*16)...)
	if err := f.ask(dev, b); err != nil {
		return nil, err
	}
	out := map[string]featureState{}
	for i, name := range names {
		is := func(word int) bool { return binary.NativeEndian.Uint32(b[8+i/32*16+4*word:])>>(i%32)&1 != 0 }
		if name != "" {
			out[name] = featureState{free: is(0) && !is(3), wanted: is(1), active: is(2)}
		}
	}
	return out, nil
}

// set asks for features to be on or off. One that the driver does not change stays as
// it is, which is no error.
//
//	ethtool_sfeatures  cmd, blocks, (valid, requested)…
func (f features) set(dev string, want map[string]bool) error {
	names, err := f.names(dev)
	if err != nil {
		return err
	}
	blocks := (len(names) + 31) / 32
	b := append(words(unix.ETHTOOL_SFEATURES, uint32(blocks)), make([]byte, blocks*8)...)
	put := func(i, word int) {
		at := b[8+i/32*8+4*word:]
		binary.NativeEndian.PutUint32(at, binary.NativeEndian.Uint32(at)|1<<(i%32))
	}
	for i, name := range names {
		on, has := want[name]
		if !has {
			continue
		}
		put(i, 0)
		if on {
			put(i, 1)
		}
	}
	return f.ask(dev, b)
}
