package bpf

import "testing"

func FuzzSocket(f *testing.F) {
	f.Add(make([]byte, msgSize))
	f.Add(append(append([]byte{10}, make([]byte, msgSize-1)...), 5, 0, attrV6Only, 0, 1, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSocket(b); err == nil && !s.addr.IsValid() {
			t.Errorf("%x: %+v", b, s)
		}
	})
}
