package vm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// early are the modules that stand between the initramfs and the machine's
// files; what else is needed modprobe finds there.
var early = []string{"virtio_pci", "9pnet_virtio", "9p", "overlay"}

// modulesDir is where the initramfs has the modules, named by their turn.
const modulesDir = "modules"

// writeInitrd writes an initramfs: init, and the early modules with what they
// depend on.
func writeInitrd(to, init, modules string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &archive{w: bufio.NewWriter(f)}
	w.file("init", init)
	for _, d := range []string{"root", "dev", modulesDir} {
		w.entry(d, 0o040755, nil)
	}
	order, err := inOrder(modules)
	if err != nil {
		return err
	}
	for i, m := range order {
		w.file(fmt.Sprintf("%s/%02d", modulesDir, i), filepath.Join(modules, m))
	}
	w.entry("TRAILER!!!", 0, nil)
	if w.err != nil {
		return w.err
	}
	return w.w.Flush()
}

// inOrder lists the early modules and what they depend on, in an order in
// which they can be loaded. modules.dep has a line "MODULE: NEEDED…" for each,
// the one needed first last.
func inOrder(modules string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(modules, "modules.dep"))
	if err != nil {
		return nil, err
	}
	var order []string
	for _, name := range early {
		found := false
		for line := range strings.Lines(string(b)) {
			file, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
			if path.Base(file) != name+".ko" {
				continue
			}
			found = true
			list := append([]string{file}, strings.Fields(needs)...)
			slices.Reverse(list)
			for _, m := range list {
				if !slices.Contains(order, m) {
					order = append(order, m)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("%s: no module %s", modules, name)
		}
	}
	return order, nil
}

// archive writes the format that the kernel unpacks, cpio "newc" (kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst): a header of 13
// numbers, the name and the content, both filled up to multiples of four.
type archive struct {
	w   *bufio.Writer
	n   int
	ino int
	err error
}

func (a *archive) file(name, from string) {
	content, err := os.ReadFile(from)
	if err != nil {
		a.err = err
		return
	}
	a.entry(name, 0o100755, content)
}

// entry writes one; an error before keeps it from it.
func (a *archive) entry(name string, mode int, content []byte) {
	if a.err != nil {
		return
	}
	a.ino++
	a.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.ino, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name))
	a.write(content)
}

func (a *archive) write(b []byte) {
	n, err := a.w.Write(b)
	if a.n += n; err == nil {
		n, err = io.WriteString(a.w, "\x00\x00\x00"[:-a.n&3])
		a.n += n
	}
	a.err = err
}
