package style

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// client and plugin are the thin binaries.
const (
	client = "cmd/sealane"
	plugin = "cmd/sealane-cni"
)

// heavy is what neither must contain, wherever it comes from.
var heavy = []string{
	"net/http", "go.etcd.io/...", "github.com/prometheus/...", "google.golang.org/...",
	"github.com/vishvananda/...", "github.com/google/nftables/...", "github.com/cilium/ebpf/...", "github.com/mdlayher/...",
	"internal/engine/...", "internal/compile/...", "internal/store/...", "internal/cluster/...", "internal/serve/...", "internal/api/server/...",
}

// commandLine is what the plugin must not contain either: to load it takes 0.2 ms.
var commandLine = []string{"internal/cli/...", "github.com/spf13/...", "text/template"}

const clientWhy = "the client is executed per container; it must start in 5 ms"

// listedPackage is the part of `go list -json` that we read.
type listedPackage struct {
	ImportPath string
	Imports    []string
}

func TestTheClientIsThin(t *testing.T) { checkThin(t, client, heavy) }

func TestThePluginIsThin(t *testing.T) { checkThin(t, plugin, slices.Concat(heavy, commandLine)) }

// checkThin refuses what a command contains.
func checkThin(t *testing.T, command string, heavy []string) {
	out, err := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Imports", modulePath+"/"+command).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	graph, err := decodeGraph(strings.NewReader(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	if len(graph[command]) == 0 {
		t.Fatalf("%s imports nothing: is it there?", command)
	}
	check(t, heavyChains(graph, command, heavy))
}

// decodeGraph reads the stream that go list prints. Our paths are shortened.
func decodeGraph(r io.Reader) (map[string][]string, error) {
	graph := map[string][]string{}
	for dec := json.NewDecoder(r); ; {
		var p listedPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return graph, nil
		}
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		name := strings.TrimPrefix(p.ImportPath, modulePath+"/")
		for _, i := range p.Imports {
			graph[name] = append(graph[name], strings.TrimPrefix(i, modulePath+"/"))
		}
	}
}

// heavyChains says how root reaches forbidden packages, by the shortest way.
// It does not look behind one: what that imports is its own affair.
func heavyChains(graph map[string][]string, root string, forbidden []string) []string {
	var out []string
	from := map[string]string{root: ""}
	for queue := []string{root}; len(queue) > 0; queue = queue[1:] {
		here := queue[0]
		if matches(here, forbidden...) {
			out = append(out, fmt.Sprintf("%s: %s", chain(from, here), clientWhy))
			continue
		}
		for _, next := range graph[here] {
			if _, seen := from[next]; !seen {
				from[next] = here
				queue = append(queue, next)
			}
		}
	}
	return out
}

func chain(from map[string]string, to string) string {
	var steps []string
	for ; to != ""; to = from[to] {
		steps = append(steps, to)
	}
	slices.Reverse(steps)
	return strings.Join(steps, " → ")
}
