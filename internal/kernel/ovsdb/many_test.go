package ovsdb

import (
	"fmt"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// TestMany has as many ports come, one after the other, as containers may restart
// at once, and go together.
func TestMany(t *testing.T) {
	r := running(t)
	r.add(br)
	var ports []kstate.Object
	for i := range 50 {
		p := kstate.OVSPort{Bridge: br.Name, Device: fmt.Sprintf("slv%d", i), Tag: i%50 + 1}
		r.veth(p.Device)
		ports = append(ports, p)
	}
	began := time.Now()
	for _, p := range ports {
		r.add(p)
	}
	t.Logf("50 ports, one after the other: %v", time.Since(began))
	r.holds(append(ports, br)...)
	began = time.Now()
	r.must(r.Apply(kerneltest.Dels(ports...)))
	t.Logf("all at once away: %v", time.Since(began))
	began = time.Now()
	r.add(ports...)
	t.Logf("all at once: %v", time.Since(began))
	r.holds(append(ports, br)...)
	began = time.Now()
	_, _ = r.Observe()
	t.Logf("a look: %v", time.Since(began))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a look at 50 ports took %v", took)
	}
}
