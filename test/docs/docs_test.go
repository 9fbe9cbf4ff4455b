// Package docs reads README.md and docs/ as a newcomer does: it types what they
// say into a host, and looks for what they leave out.
//
//	a eth0 192.0.2.1 2001:db8::1 ── lan
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m, "sealane", "sealane-cni", "sealaned") }

// root is where README.md is.
const root = "../.."

func text(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// command is a line of a page.
type command struct {
	line int // from 1
	text string
}

// blocks returns the lines of a page's code blocks in a language, block by block.
func blocks(page, language string) [][]command {
	var out [][]command
	inside, ours, n := false, false, 0
	for line := range strings.Lines(page) {
		n++
		line = strings.TrimRight(line, "\n")
		switch lang, fence := strings.CutPrefix(line, "```"); {
		case fence && inside:
			inside, ours = false, false
		case fence:
			inside, ours = true, lang == language
			if ours {
				out = append(out, nil)
			}
		case ours:
			out[len(out)-1] = append(out[len(out)-1], command{n, line})
		}
	}
	return out
}

// prelude is for what a reader does and a machine has to be told. The Makefile
// is asked what it would do. Who waits a second looks whether it was enough.
const prelude = `
make() { command make -n "$@"; }
sleep() {
	command sleep "$1"
	for _ in $(seq 150); do
		[ -n "$(sealane diff 2>&1)" ] || return 0
		command sleep 0.1
	done
	echo "not as intended after 15 seconds" >&2
	return 1
}
step() {
	echo "@@ $2"
	eval "$2" || { status=$?; echo "README.md:$1: $2: exit $status" >&2; exit 1; }
}
`

// host is one with an uplink.
func host(t *testing.T) *lab.Host {
	t.Helper()
	featuretest.Require(t, feature.Nftables, feature.Holds, feature.NSID, feature.IPv6, feature.Veth, feature.Bridge)
	l := lab.New(t)
	h := l.Host("a")
	h.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	return h
}

// built makes a directory that looks like the project's after make build.
func built(t *testing.T, h *lab.Host, dir string) {
	t.Helper()
	makefile, err := filepath.Abs(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	h.Must("sh", "-c", `mkdir "$1" && cd "$1" && ln -s "$2" Makefile && ln -s "$3" bin`, "sh", dir, makefile, os.Getenv(lab.EnvBin))
}

// state is what must be the same when everything is taken back.
const state = `ip -o link; ip -o addr | sed 's/ tentative//'; ip route; ip -6 route; nft list ruleset
find /run -path "*sealane*" ! -path "/run/here/*"; find /run/netns -mindepth 1; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding`

// shown are lines of the README whose output it promises, in its order.
var shown = []struct{ line, output string }{
	{`sealane ps`, `(?s)web +running .* app=\S+ +8080->80/tcp .*db +running`},
	{`curl http://127.0.0.1:8080/`, `^hello\n$`},
	{`sealane exec web curl http://db/`, `^hello\n$`},
	{`sealane run --rm --network app ip addr`, ` eth0@`},
	{`sealane port ls`, `db +8081->80/tcp from 192.0.2.0/24`},
	{`sealane port rm`, `^$`},
	{`ip link show group 24225`, `(?s)sealane0.* alias sealane app`},
	{`bridge link`, `(?s) master slb.* master slb`},
	{`nft list table inet sealane`, `tcp . 8080 : `},
	{`nsenter --net=/run/sealane/netns/`, ` eth0@`},
	{`sealane diff`, `^$|\+ table inet sealane\n`}, // the daemon may be quicker than who types
	{`sealane diff`, `^$`},
	{`ip netns exec other ip addr`, ` eth0@`},
}

// TestReadme types the README into a shell, line by line.
func TestReadme(t *testing.T) {
	h := host(t)
	built(t, h, "/run/here")
	before := h.Must("sh", "-c", state)
	var script strings.Builder
	script.WriteString("cd /run/here\n" + prelude)
	for _, block := range blocks(text(t, "README.md"), "sh") {
		for _, c := range block {
			script.WriteString("step " + strconv.Itoa(c.line) + " " + quote(c.text) + "\n")
		}
	}
	r := h.Run("bash", "-c", script.String())
	if r.Code != 0 {
		t.Fatalf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	steps := strings.Split(r.Stdout, "@@ ")
	for _, want := range shown {
		var output string
		if output, steps = after(steps, want.line); !regexp.MustCompile(want.output).MatchString(output) {
			t.Errorf("%s: want %s, got:\n%s", want.line, want.output, output)
		}
	}
	if now := h.Must("sh", "-c", state); now != before {
		t.Errorf("what the README sets up, it does not take back. Before:\n%s\nafter:\n%s", before, now)
	}
}

// after finds the next line that begins with some words, and returns its output
// and the steps behind it.
func after(steps []string, words string) (string, []string) {
	for i, s := range steps {
		if line, output, _ := strings.Cut(s, "\n"); strings.HasPrefix(line, words) {
			return output, steps[i+1:]
		}
	}
	return "there is no such line", steps
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
