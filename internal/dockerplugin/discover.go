package dockerplugin

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Where dockerd looks for a plugin that a name means (pkg/plugins/discovery.go and
// discovery_unix.go in moby).
const socketDir = "/run/docker/plugins"

var specDirs = []string{"/etc/docker/plugins", "/usr/lib/docker/plugins"}

// Found reports why dockerd would find no plugin that answers at a socket.
func Found(socket string) error {
	if found(socket, socketDir, specDirs) {
		return nil
	}
	return fmt.Errorf("dockerd does not look at %s, but for %s/NAME.sock, and for files NAME.spec in %s with unix://%s in them",
		socket, socketDir, strings.Join(specDirs, " and "), socket)
}

func found(socket, sockets string, specs []string) bool {
	is, err := os.Stat(socket)
	if err != nil {
		return false
	}
	same := func(path string) bool {
		o, err := os.Stat(path)
		return err == nil && os.SameFile(is, o)
	}
	for _, path := range named(sockets, ".sock") {
		if same(path) {
			return true
		}
	}
	for _, dir := range specs {
		for _, path := range append(named(dir, ".spec"), named(dir, ".json")...) {
			if at, ok := strings.CutPrefix(specced(path), "unix://"); ok && same(at) {
				return true
			}
		}
	}
	return false
}

// named lists the files NAME.ext and NAME/NAME.ext of a directory.
func named(dir, ext string) (paths []string) {
	entries, _ := os.ReadDir(dir) // none is as good as empty
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ext {
			paths = append(paths, filepath.Join(dir, e.Name()))
		} else {
			paths = append(paths, filepath.Join(dir, e.Name(), e.Name()+ext))
		}
	}
	return paths
}

// specced is what a .spec or .json file says.
func specced(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if filepath.Ext(path) != ".json" {
		return strings.TrimSpace(string(text))
	}
	var spec struct{ Addr string }
	_ = json.Unmarshal(text, &spec) // what cannot be read says none
	return spec.Addr
}
