package facts

import (
	"fmt"
	"testing"
)

func TestNeighbours(t *testing.T) {
	const four, six = "net.ipv4.neigh.default.gc_thresh3", "net.ipv6.neigh.default.gc_thresh3"
	for _, c := range []struct {
		name string
		have map[string]string
		ours bool
		want string
	}{
		{"as the kernel has them", map[string]string{four: "1024", six: "1024"}, false, "map[" + four + ":65536 " + six + ":65536]"},
		{"as we have set them", map[string]string{four: "65536", six: "65536"}, true, "map[" + four + ":65536 " + six + ":65536]"},
		{"raised by others, enough", map[string]string{four: "65536", six: "100000"}, false, "map[]"},
		{"raised by others since we have", map[string]string{four: "100000", six: "65536"}, true, "map[" + four + ":100000 " + six + ":65536]"},
		{"in a namespace that has none", nil, false, "map[]"},
		{"no IPv6", map[string]string{four: "8192"}, false, "map[" + four + ":65536]"},
	} {
		got := neighbours(func(string) bool { return c.ours }, func(name string) string { return c.have[name] })
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
	err := inNewNamespace(func() error {
		if got := Neighbours(func(string) bool { return true }); len(got) > 0 {
			return fmt.Errorf("in a namespace: %v", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
