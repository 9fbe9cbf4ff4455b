package driver

import (
	"strings"
	"testing"
)

func TestParseMark(t *testing.T) {
	for _, c := range []struct{ text, want, err string }{
		{"1", "meta mark and 0xffffffff == 0x1", ""},
		{"0x10/0xff", "meta mark and 0x100000ff == 0x10", ""},
		{"010/0xff", "meta mark and 0x100000ff == 0x8", ""},
		{"0xefffffff", "meta mark and 0xffffffff == 0xefffffff", ""},
		{"", "", ""},
		{"0", "", "packets that nobody marked have 0"},
		{"0/0xff", "", "packets that nobody marked have 0"},
		{"0/0", "", "packets that nobody marked have 0"},
		{"1/2", "", "the mark has bits that are not in the mask"},
		{"0x10000000", "", "bit 0x10000000 is Sealane's own"},
		{"0x10000001/0x10000001", "", "bit 0x10000000 is Sealane's own"},
		{"4294967296", "", "want MARK or MARK/MASK"},
		{"1/4294967296", "", "want MARK or MARK/MASK"},
		{"-1", "", "want MARK or MARK/MASK"},
		{"/1", "", "want MARK or MARK/MASK"},
		{"1/", "", "want MARK or MARK/MASK"},
		{"1/1/1", "", "want MARK or MARK/MASK"},
		{"1 accept", "", "want MARK or MARK/MASK"},
		{" ", "", "want MARK or MARK/MASK"},
	} {
		m, err := ParseMark(c.text)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || m != Mark{}):
			t.Errorf("%q: got %v, %v, want %s", c.text, m, err, c.err)
		case c.err == "" && err != nil:
			t.Errorf("%q: %v", c.text, err)
		case c.want != "" && m.Match() != c.want:
			t.Errorf("%q: got %s, want %s", c.text, m.Match(), c.want)
		}
	}
}
