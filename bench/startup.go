package main

import (
	"os/exec"
	"path/filepath"
)

// startupRows measures how long the client takes to start and end, against a
// program that does nothing.
func startupRows(b *bench) error {
	h, err := newHost()
	if err != nil {
		return err
	}
	defer h.close()
	run := func(name string, args ...string) block {
		return func() (took float64, err error) {
			err = h.do(func() error {
				took, err = timed(exec.Command(name, args...).Run)
				return err
			})
			return took, err
		}
	}
	o, err := b.contest(b.times(50), run(filepath.Join(b.bin, "sealane"), "version"), run("/bin/true"))
	if err != nil {
		return err
	}
	b.table.absolute("start of sealane version", o, atMost(5e-3, millis))
	b.table.told("start of sealane version / true", o, millis, o.ratio().inverse())
	return nil
}
