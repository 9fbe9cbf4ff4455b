package dockerplugin

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestFound: Docker finds a plugin by a socket in one directory, and by files in others.
func TestFound(t *testing.T) {
	dir := t.TempDir()
	sockets, specs := filepath.Join(dir, "plugins"), filepath.Join(dir, "etc")
	for _, d := range []string{filepath.Join(sockets, "deep"), filepath.Join(sockets, "other"), filepath.Join(specs, "far")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	socket := func(path ...string) string {
		path = append([]string{dir}, path...)
		l, err := net.Listen("unix", filepath.Join(path...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().String()
	}
	file := func(name, text string) {
		if err := os.WriteFile(filepath.Join(specs, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	specced, json, far := socket("specced"), socket("json"), socket("far")
	file("one.spec", "unix://"+specced+"\n")
	file("two.json", `{"Name": "two", "Addr": "unix://`+json+`"}`)
	file("far/far.spec", "unix://"+far)
	file("bad.json", `{`)
	file("tcp.spec", "tcp://127.0.0.1:80")
	file("three.txt", "unix://"+socket("txt"))
	if err := os.Symlink(sockets, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		socket("plugins", "sealane.sock"):          true,
		socket("plugins", "deep", "deep.sock"):     true,
		socket("plugins", "other", "sealane.sock"): false,
		socket("plugins", "sealane"):               false,
		socket("elsewhere.sock"):                   false,
		filepath.Join(dir, "link/sealane.sock"):    true,
		filepath.Join(dir, "txt"):                  false,
		filepath.Join(dir, "nosuch"):               false,
		specced:                                    true,
		json:                                       true,
		far:                                        true,
	} {
		if got := found(path, sockets, []string{filepath.Join(dir, "none"), specs}); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
}
