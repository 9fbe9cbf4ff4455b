package pipework

import (
	"fmt"
	"strings"
	"testing"
)

func TestBatch(t *testing.T) {
	for line, want := range map[string]string{
		"tc -b f":                 "f [tc] true",
		"tc -batch -":             "- [tc] true",
		"tc -s -b f -force":       "f [tc -s -force] true",
		"tc qdisc add dev x -b f": " [] false",
		"tc -b":                   " [] false",
		"ip route -b f":           " [] false",
		"tc - f":                  " [] false",
	} {
		name, rest, ok := batch(strings.Fields(line))
		if got := fmt.Sprintln(name, rest, ok); got != want+"\n" {
			t.Errorf("%s: %s", line, got)
		}
	}
	got := batchLines("# all\nqdisc add dev eth1 \\\n root pfifo # why\n\n 'a b' \"c'd\"\tlast")
	if want := "[{3 [qdisc add dev eth1 root pfifo]} {5 [a b c'd last]}]"; fmt.Sprint(got) != want {
		t.Errorf("lines: %v", got)
	}
}
