package runtime

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// machine reads what systemd-machined writes down: a file for each machine that
// runs, systemd-nspawn's and others'. The name is the ID.
type machine struct {
	running string // the directory with the files
	images  string
	nspawn  []string
}

func (m *machine) here() bool { return exists(m.running) || exists(m.images) }

func (m *machine) find(_ context.Context, g model.Guest) (Container, error) {
	if !machineName(g.Name) {
		return Container{Guest: g}, nil
	}
	g.ID = g.Name
	data, err := os.ReadFile(filepath.Join(m.running, g.Name))
	if err != nil && !missing(err) {
		return Container{}, err
	}
	if pid := leader(data); pid != 0 {
		if c, err := running(g, pid); err != nil || c.State == Running {
			return c, err
		}
	}
	if err == nil || m.known(g.Name) {
		return Container{Guest: g, State: Stopped}, nil
	}
	return Container{Guest: g}, nil
}

// machineName reports whether a name may be one of a machine: as of a host, and at
// most 64 characters (hostname(7)). Files beginning with a dot are being written.
func machineName(name string) bool { return plain(name) && len(name) <= 64 }

// known reports whether a machine that does not run can be started.
func (m *machine) known(name string) bool {
	for _, dir := range m.nspawn {
		if exists(filepath.Join(dir, name+".nspawn")) {
			return true
		}
	}
	return exists(filepath.Join(m.images, name)) || exists(filepath.Join(m.images, name+".raw"))
}

// leader returns the first process of a machine by its file, 0 if it has none:
//
//	# This is private data. Do not parse.
//	NAME=web
//	CLASS=container
//	LEADER=4711
func leader(file []byte) int {
	for line := range bytes.Lines(file) {
		if value, ok := bytes.CutPrefix(line, []byte("LEADER=")); ok {
			return parsePID(value)
		}
	}
	return 0
}

func (m *machine) watch(ctx context.Context, w *watcher) { watchFiles(ctx, w, m) }

func (m *machine) dirs(model.Guest, func(string) string) []string {
	return append([]string{m.running, m.images}, m.nspawn...)
}

func (m *machine) concerns(path string, g model.Guest) bool {
	base := filepath.Base(path)
	if base == g.Name {
		return true
	}
	name, ext, ok := cutLast(base, ".")
	return ok && name == g.Name && (ext == "raw" || ext == "nspawn")
}

// cutLast is strings.Cut around the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
