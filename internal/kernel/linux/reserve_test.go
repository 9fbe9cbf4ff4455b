package linux

import (
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
)

func TestHeldPortsAreNotGivenOut(t *testing.T) {
	dir := host(t)
	j := &journal.Memory{}
	run(t, "sysctl -qw net.ipv4.ip_local_reserved_ports=40000")
	l := open(t, Config{RunDir: dir, Journal: j})
	reserved := func(want string) {
		t.Helper()
		if got := strings.TrimSpace(run(t, "sysctl -n net.ipv4.ip_local_reserved_ports")); got != want {
			t.Errorf("reserved %q, want %q", got, want)
		}
	}
	low := kstate.Hold{Proto: "tcp", First: 8080, Last: 8080}
	one := kstate.Hold{Proto: "tcp", First: 50000, Last: 50000}
	two := kstate.Hold{Proto: "udp", First: 50001, Last: 50009}
	edge := kstate.Hold{Proto: "tcp", First: 32000, Last: 33000}
	apply := func(ops ...kstate.Op) {
		t.Helper()
		if err := l.Apply(t.Context(), ops); err != nil {
			t.Fatal(err)
		}
	}
	apply(kstate.Op{New: low})
	reserved("40000")
	apply(kstate.Op{New: one}, kstate.Op{New: two}, kstate.Op{New: edge})
	reserved("32768-33000,40000,50000-50009")
	l.Close()
	l = open(t, Config{RunDir: dir, Journal: j}) // another process knows it from the journal
	reserved("32768-33000,40000,50000-50009")
	apply(kstate.Op{Old: one})
	reserved("32768-33000,40000,50001-50009")
	apply(kstate.Op{Old: two}, kstate.Op{Old: edge}, kstate.Op{Old: low})
	reserved("40000")
	if entries, _ := j.Entries(); len(entries) > 0 {
		t.Errorf("journal: %v", entries)
	}
}

func TestReservedListFitsAPage(t *testing.T) {
	var spans []span
	for i := range uint16(5000) {
		spans = append(spans, span{33000 + 2*i, 33000 + 2*i})
	}
	if text := list("40000", spans); len(text) > maxReserved || !strings.HasPrefix(text, "40000,33000-33000,") {
		t.Errorf("%d bytes: %.40s…", len(text), text)
	}
}
