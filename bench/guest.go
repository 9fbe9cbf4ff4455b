package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// inGuest has a group of rows measured on Debian's kernel in a virtual machine, see
// test/vm, and adds them. What counts there is a ratio: a second is a number of
// instructions.
func (b *bench) inGuest(group string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	to := filepath.Join(b.bin, group+".json")
	if b.quick {
		group += "-quick"
	}
	cmd := exec.CommandContext(b.ctx, "go", "test", "-count=1", "-timeout", "30m", "./test/vm", "-args", "-bench", group, "-rows", to)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("in the guest: %w", err)
	}
	text, err := os.ReadFile(to)
	if err != nil {
		return err
	}
	var rows []row
	if err := json.Unmarshal(text, &rows); err != nil {
		return fmt.Errorf("rows of the guest: %w", err)
	}
	for _, r := range rows {
		r.Measure = "in a guest, " + r.Measure
		b.table.add(r)
	}
	return nil
}

// write puts the rows into a file, for who has had them measured.
func (t *table) write(to string) error {
	text, err := json.Marshal(t.rows)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}
