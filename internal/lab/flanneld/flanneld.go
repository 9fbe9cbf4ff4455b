// Package flanneld builds flanneld, for tests of hosts that share networks with it.
package flanneld

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

// Name is what the program is called.
const Name = "flanneld"

// module is where it comes from.
const module = "github.com/flannel-io/flannel@v0.28.9"

// without are the packages of flanneld for networks that are in no etcd, and what is there
// instead: they need more than all the rest, of which one part is not to be had.
var without = map[string]string{
	"pkg/backend/tencentvpc": "package tencentvpc\n",
	"pkg/subnet/kube": `package kube

import (
	"context"
	"errors"

	"github.com/flannel-io/flannel/pkg/subnet"
)

func NewSubnetManager(context.Context, string, string, string, string, bool) (subnet.Manager, error) {
	return nil, errors.ErrUnsupported
}
`,
}

// Find returns the path of flanneld: that of the PATH, or one that it builds, for as long
// as the test runs.
func Find(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath(Name); err == nil {
		return path
	}
	path := filepath.Join(t.TempDir(), Name)
	Build(t, path)
	return path
}

// Build builds flanneld from its module, as it is but for what only clouds and Kubernetes need.
func Build(t testing.TB, path string) {
	t.Helper()
	lab.Needs(t, "gcc") // its backend udp is in part written in C
	src := filepath.Join(t.TempDir(), "src")
	var from struct{ Dir string }
	if err := json.Unmarshal(run(t, filepath.Dir(src), "mod", "download", "-json", module), &from); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(src, os.DirFS(from.Dir)); err != nil {
		t.Fatal(err)
	}
	for pkg, text := range without {
		at := filepath.Join(src, pkg)
		err := errors.Join(os.RemoveAll(at), os.Mkdir(at, 0o755), os.WriteFile(filepath.Join(at, "none.go"), []byte(text), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	run(t, src, "build", "-o", path, ".")
}

// run runs the go command in a directory and returns what it prints.
func run(t testing.TB, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=-buildvcs=false")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%v: %v\n%s%s", cmd.Args, err, out, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	return out
}
