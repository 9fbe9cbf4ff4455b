package store

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

// BenchmarkCommit writes one sandbox of a thousand, on the disk of the test's
// directory: what an attach waits for beside the kernel.
func BenchmarkCommit(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "s.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	c := full()
	sb := *c.Sandboxes[0]
	for i := range 1000 {
		sb := sb
		sb.ID = model.ID(fmt.Sprintf("%012x", i))
		c.Sandboxes = append(c.Sandboxes, &sb)
	}
	if err := s.Commit(c); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		sb.ID = model.ID(fmt.Sprintf("%012x", i%1000))
		if err := s.Commit(Change{Sandboxes: []*model.Sandbox{&sb}, Cursors: map[string]string{"p/4": "10.0.0.2"}}); err != nil {
			b.Fatal(err)
		}
	}
}
