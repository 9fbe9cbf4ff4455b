package bpf

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

// covers is what the trie does, the slow way.
func covers(ks []key, class class, port uint16) bool {
	for _, k := range ks {
		bits := int(binary.NativeEndian.Uint32(k[:])) - (keyBits - 16)
		first := binary.BigEndian.Uint16(k[keyPort:])
		if k[keyClass] == byte(class) && (bits == 0 || first>>(16-bits) == port>>(16-bits)) {
			return true
		}
	}
	return false
}

func TestKeysCoverRange(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	ranges := [][2]uint16{{1, 65535}, {0, 65535}, {80, 80}, {65535, 65535}, {20001, 30000}}
	for range 20 {
		a, b := uint16(rnd.IntN(65536)), uint16(rnd.IntN(65536))
		ranges = append(ranges, [2]uint16{min(a, b), max(a, b)})
	}
	for _, r := range ranges {
		ks := keys(kstate.Hold{Proto: "tcp", First: r[0], Last: r[1]})
		if len(ks) > 30 {
			t.Errorf("%v: %d keys", r, len(ks))
		}
		for port := range 65536 {
			p := uint16(port)
			if got, want := covers(ks, every, p), r[0] <= p && p <= r[1]; got != want {
				t.Fatalf("%v: port %d covered: %v", r, p, got)
			}
		}
	}
}

func TestRecord(t *testing.T) {
	for _, s := range manyHolds {
		if got := recordOf(hold(s)).hold(); got != hold(s) {
			t.Errorf("%s came back as %s", s, got)
		}
	}
}

func TestCgroupMounts(t *testing.T) {
	const tmpfs = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
	const v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu\n"
	for _, c := range []struct{ mounts, want string }{
		{tmpfs + v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"},
		{"1 1 0:2 /a /mnt/a rw - cgroup2 x rw\n1 1 0:2 / /mnt/with\\040blank rw - cgroup2 x rw\n", "/mnt/with blank then /mnt/a"},
		{"1 1 0:2 /docker/1 /sys/fs/cgroup ro - cgroup2 x rw\n", "/sys/fs/cgroup"},
		{tmpfs + v1, ""},
		{"garbage\n - cgroup2 \n", ""},
	} {
		if got := strings.Join(cgroupMounts(c.mounts), " then "); got != c.want {
			t.Errorf("%q: %q: want %q", c.mounts, got, c.want)
		}
	}
}
