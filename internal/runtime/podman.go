package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/sealane/sealane/internal/model"
)

// podman reads what Podman leaves on disk; there is no daemon to ask. DRIVER is
// that of the storage, overlay or vfs:
//
//	STORAGE/DRIVER-containers/containers.json           IDs and names
//	STORAGE/DRIVER-containers/volatile-containers.json  those of run --rm, where it keeps them apart
//	RUN/DRIVER-containers/ID/userdata/pidfile           the first process, or the last one's
type podman struct {
	storage, run string

	mu    sync.Mutex // protects the following
	lists map[string]list
}

// list is a file of containers as it was when it was read.
type list struct {
	file    os.FileInfo
	entries []entry
}

// is reports whether it is what is in a file now.
func (l list) is(file os.FileInfo) bool {
	return l.file != nil && os.SameFile(l.file, file) && l.file.Size() == file.Size() && l.file.ModTime().Equal(file.ModTime())
}

// entry is a container in a file of them.
type entry struct {
	ID    string   `json:"id"`
	Names []string `json:"names"`
}

// name is the container's or, if that cannot be one, its ID.
func (e entry) name() string {
	if len(e.Names) == 0 || !plain(e.Names[0]) {
		return e.ID
	}
	return e.Names[0]
}

// listed are the files with containers.
func listed(base string) bool { return base == "containers.json" || base == "volatile-containers.json" }

func (p *podman) here() bool { return len(p.drivers()) > 0 }

// drivers returns the directories of the storage that have containers.
func (p *podman) drivers() []string {
	names, err := os.ReadDir(p.storage)
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range names {
		if strings.HasSuffix(n.Name(), "-containers") && n.IsDir() {
			out = append(out, n.Name())
		}
	}
	return out
}

func (p *podman) find(_ context.Context, g model.Guest) (Container, error) {
	drivers := p.drivers()
	if len(drivers) == 0 && g.ID != "" {
		return Container{}, fmt.Errorf("%s: no containers there, is it mounted", p.storage)
	}
	all, err := p.all(drivers)
	if err != nil {
		return Container{}, err
	}
	e, err := choose(all, g)
	if err != nil || e.ID == "" {
		return Container{Guest: g}, err
	}
	g.ID, g.Name = e.ID, e.name()
	for _, driver := range drivers {
		if pid := readPID(filepath.Join(p.run, driver, e.ID, "userdata/pidfile")); pid != 0 && belongs(pid, e.ID) {
			return running(g, pid)
		}
	}
	return Container{Guest: g, State: Stopped}, nil
}

// all returns the containers of all drivers.
func (p *podman) all(drivers []string) (all []entry, err error) {
	for _, driver := range drivers {
		for _, file := range []string{
			filepath.Join(p.storage, driver, "containers.json"),
			filepath.Join(p.storage, driver, "volatile-containers.json"),
			filepath.Join(p.run, driver, "volatile-containers.json"),
		} {
			entries, err := p.read(file)
			if err != nil {
				return nil, err
			}
			all = append(all, entries...)
		}
	}
	return all, nil
}

// choose returns the container that a guest is or, if it is none yet, the one that
// its name means: a name, an ID or, unless it is awaited, the begin of one. It returns
// none if there is no such.
func choose(all []entry, g model.Guest) (entry, error) {
	var begins []entry
	var byID entry
	for _, e := range all {
		switch {
		case g.ID != "":
			if e.ID == g.ID {
				return e, nil
			}
		case slices.Contains(e.Names, g.Name):
			return e, nil
		case e.ID == g.Name:
			byID = e
		case strings.HasPrefix(e.ID, g.Name) && !g.Awaited:
			begins = append(begins, e)
		}
	}
	switch {
	case byID.ID != "" || len(begins) == 0:
		return byID, nil
	case len(begins) > 1:
		return entry{}, fmt.Errorf("%d containers have an ID that begins so", len(begins))
	}
	return begins[0], nil
}

// read returns the containers in a file, without reading it if it is as before. A
// missing one has none: it comes with the first container.
func (p *podman) read(file string) ([]entry, error) {
	at, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lists[file]; l.is(at) {
		return l.entries, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	entries, err := parseList(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	p.lists[file] = list{at, entries}
	return entries, nil
}

// parseList reads a file of containers. Those with an ID that cannot be one are
// left out: it becomes part of a path.
func parseList(data []byte) ([]entry, error) {
	var entries []entry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e entry) bool { return !plain(e.ID) }), nil
}

func (p *podman) watch(ctx context.Context, w *watcher) { watchFiles(ctx, w, p) }

func (p *podman) dirs(g model.Guest, _ func(string) string) []string {
	dirs := []string{p.storage}
	for _, driver := range p.drivers() {
		dirs = append(dirs, filepath.Join(p.storage, driver), filepath.Join(p.run, driver))
		if plain(g.ID) {
			dirs = append(dirs, filepath.Join(p.run, driver, g.ID, "userdata"))
		}
	}
	return dirs
}

// concerns takes a change of the list to concern everybody: it does not say whom.
func (p *podman) concerns(path string, g model.Guest) bool {
	dir, base := filepath.Split(path)
	switch {
	case listed(base), filepath.Clean(dir) == filepath.Clean(p.storage) && strings.HasSuffix(base, "-containers"):
		return true
	case base == "pidfile":
		return filepath.Base(filepath.Dir(filepath.Clean(dir))) == g.ID
	}
	return false
}
