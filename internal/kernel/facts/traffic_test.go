package facts

import (
	"strings"
	"testing"
)

func TestDevices(t *testing.T) {
	const page = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    8012     101    0    0    0     0          0         0     8012     101    0    0    0     0       0          0
eth0:1: 18446744073709551615 2    3    4    5     6          7         8        9      10   11   12   13    14      15         16
`
	all, err := devices(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Traffic{
		"lo":     {Passed{Bytes: 8012, Packets: 101}, Passed{Bytes: 8012, Packets: 101}},
		"eth0:1": {Passed{18446744073709551615, 2, 3, 4}, Passed{9, 10, 11, 12}},
	}
	for name, tr := range want {
		if all[name] != tr {
			t.Errorf("%s: %+v, want %+v", name, all[name], tr)
		}
	}
	if len(all) != len(want) {
		t.Errorf("devices %v", all)
	}
	for _, bad := range []string{"a\nb\nlo: 1 2", "a\nb\nlo", "a\nb\nlo: x 1 1 1 1 1 1 1 1 1 1 1"} {
		if _, err := devices(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	if all, err := Devices(); err != nil || len(all) == 0 {
		t.Errorf("this host: %v, %v", all, err)
	}
}
