package model

import (
	"slices"
	"testing"
)

func TestTrunks(t *testing.T) {
	for _, c := range []struct {
		text, want string
		list       []int
	}{
		{"100", "100", []int{100}},
		{"200,100", "100,200", []int{100, 200}},
		{"3,1-2,2,7", "1-3,7", []int{1, 2, 3, 7}},
		{"4093-4094", "4093-4094", []int{4093, 4094}},
		{"5-5", "5", []int{5}},
		{"all", "all", nil},
	} {
		got, err := ParseTrunks(c.text)
		if err != nil || string(got) != c.want || !slices.Equal(got.List(), c.list) {
			t.Errorf("%s: %q %v, %v; want %q %v", c.text, got, got.List(), err, c.want, c.list)
		}
		if again, err := ParseTrunks(string(got)); again != got || err != nil {
			t.Errorf("%s again: %q, %v", got, again, err)
		}
	}
	if every, err := ParseTrunks("1-4094"); every != "1-4094" || len(every.List()) != 4094 || err != nil {
		t.Errorf("all by number: %q, %v", every, err)
	}
	for _, bad := range []string{"", "0", "4095", "5-4", "1-", "-1", "1--2", "1,,2", "a", "1 ,2", "ALL", "1-2-3", "all,1"} {
		if got, err := ParseTrunks(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

func TestVLANs(t *testing.T) {
	for _, c := range []struct {
		n      Options
		e      Endpoint
		vlan   int
		trunks Trunks
	}{
		{Options{}, Endpoint{}, 0, ""},
		{Options{VLAN: 5}, Endpoint{}, 5, ""},
		{Options{VLAN: 5, Trunks: "7"}, Endpoint{}, 5, "7"},
		{Options{VLAN: 5, Trunks: "7"}, Endpoint{VLAN: 6}, 6, ""},
		{Options{VLAN: 5, Trunks: "7"}, Endpoint{Trunks: "8"}, 0, "8"},
	} {
		n := &Network{Options: c.n}
		if v, tr := n.VLANOf(&c.e), n.TrunksOf(&c.e); v != c.vlan || tr != c.trunks {
			t.Errorf("%+v %+v: %d %q, want %d %q", c.n, c.e, v, tr, c.vlan, c.trunks)
		}
	}
	for _, c := range []struct {
		kv   map[string]string
		want string
	}{
		{map[string]string{"vlan": "7", "trunks": "8-9"}, ""},
		{map[string]string{"vlan": "0"}, `endpoint option vlan: "0": want 1 to 4094`},
		{map[string]string{"vlan": "7", "trunks": "1-9"}, "endpoint option vlan: option trunks: VLAN 7: has no tag, as option vlan says"},
		{map[string]string{"vlan": "7", "trunks": "all"}, "endpoint option vlan: option trunks: all: has no VLAN without a tag, which option vlan asks for"},
	} {
		_, err := ParseEndpointOptions(c.kv)
		if got := errText(err); got != c.want {
			t.Errorf("%v: %q, want %q", c.kv, got, c.want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
