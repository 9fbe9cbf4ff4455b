package docs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/lab"
)

const guide = "docs/guide.md"

// TestGuideIsComplete asks the program what there is and looks for it in the
// guide: options of a network, flags of every command, words of a status, files.
func TestGuideIsComplete(t *testing.T) {
	h := host(t)
	h.Daemon()
	page := text(t, guide)
	missing := func(what, name string) {
		if !regexp.MustCompile(`(^|[^-a-zA-Z0-9])` + regexp.QuoteMeta(name) + `($|[^-a-zA-Z0-9])`).MatchString(page) {
			t.Errorf("%s: nothing about %s %s", guide, what, name)
		}
	}
	for _, name := range options(t, h) {
		missing("the option", name)
	}
	for command, flags := range commands(t, h, "sealane") {
		for _, f := range flags {
			missing(command, f)
		}
	}
	for _, state := range []string{engine.StateReady, engine.StateRunning, engine.StateAway, engine.StateExited, engine.StateLost, engine.StateDegraded, engine.StateConflict} {
		missing("the state", "`"+state+"`")
	}
	h.Must("sealane", "run", "-d", "--name", "web", "sh", "-c", "exit 3")
	h.Must("sh", "-c", "until sealane ps -a | grep exited; do sleep 0.05; done")
	for _, dir := range []string{"/run/sealane", "/var/lib/sealane", "/run/sealane/sandboxes/*"} {
		for _, name := range strings.Fields(h.Must("sh", "-c", "ls "+dir)) {
			missing("the file", name)
		}
	}
}

// options are those that an option nobody knows is told of.
func options(t *testing.T, h *lab.Host) []string {
	r := h.Run("sealane", "network", "create", "-o", "nosuch=1", "app")
	_, list, _ := strings.Cut(strings.TrimSpace(r.Stderr), "which knows ")
	names := strings.Split(list, ", ")
	if len(names) < 10 {
		t.Fatalf("no list of options: %s", r.Stderr)
	}
	return names
}

var (
	flagRE    = regexp.MustCompile(`(?m)^ +(?:-[a-zA-Z], )?(--[a-z0-9-]+)`)
	commandRE = regexp.MustCompile(`(?m)^  ([a-z]+) {2,}[A-Z]`)
)

// unsaid are flags that need no word.
var unsaid = []string{"--help", "--version"}

// commands returns the flags of a command and of those below it, by their help.
func commands(t *testing.T, h *lab.Host, name string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	args := append(strings.Fields(name), "--help")
	help := h.Must(args[0], args[1:]...)
	_, flags, _ := strings.Cut(help, "\nFlags:\n")
	for _, m := range flagRE.FindAllStringSubmatch(flags, -1) {
		if !slices.Contains(unsaid, m[1]) {
			out[name] = append(out[name], m[1])
		}
	}
	_, list, has := strings.Cut(help, "\nCommands:\n")
	if !has {
		return out
	}
	list, _, _ = strings.Cut(list, "\n\n")
	below := commandRE.FindAllStringSubmatch(list, -1)
	if len(below) == 0 {
		t.Fatalf("%s --help: no commands", name)
	}
	for _, m := range below {
		for command, flags := range commands(t, h, name+" "+m[1]) {
			out[command] = flags
		}
	}
	return out
}

// in is what the guide has in a language, as one text.
func in(t *testing.T, language string) string {
	t.Helper()
	var b strings.Builder
	for _, block := range blocks(text(t, guide), language) {
		for _, c := range block {
			b.WriteString(c.text + "\n")
		}
	}
	return b.String()
}

// TestGuideLAN types the guide's command for a network in the LAN.
//
//	web 192.0.2.128 ── br0 192.0.2.1 ── eth0 ── lan ── router 192.0.2.254
func TestGuideLAN(t *testing.T) {
	featuretest.Require(t, feature.Nftables, feature.Holds, feature.NSID, feature.IPv6, feature.Veth, feature.Bridge)
	l := lab.New(t)
	a, router := l.Host("a"), l.Host("router")
	a.Plug(l.Switch("lan"), "eth0")
	router.Plug(l.Switch("lan"), "eth0", "192.0.2.254/24")
	a.Must("sh", "-ec", "ip link add br0 type bridge; ip link set eth0 master br0; ip addr add 192.0.2.1/24 dev br0; ip link set br0 up")
	a.Daemon()
	a.Must("sh", "-ec", in(t, "sh"))
	a.Must("sealane", "run", "-d", "--name", "web", "--network", "lan", "lab-echo", "serve", "-tcp", "80")
	router.Must("sh", "-c", fmt.Sprintf(reach, "http://192.0.2.128/"))
	if route := a.Must("sealane", "exec", "web", "ip", "route", "show", "default"); !strings.HasPrefix(route, "default via 192.0.2.254 ") {
		t.Errorf("the default route is %s", route)
	}
	a.Must("sealane", "exec", "web", "lab-echo", "ping", "-timeout", "5s", "192.0.2.254")
}

// reach asks a server until it is there, for ten seconds or more.
const reach = "for i in $(seq 100); do lab-echo get -timeout 5s %s && exit; sleep 0.1; done; exit 1"

// TestGuideDeclaration applies the guide's file.
func TestGuideDeclaration(t *testing.T) {
	h := host(t)
	h.Daemon()
	h.Must("sh", "-c", `ip netns add web && echo "$1" > /run/file.yaml && sealane apply -f /run/file.yaml`, "sh", in(t, "yaml"))
	h.Start("ip", "netns", "exec", "web", "lab-echo", "serve", "-tcp", "80")
	h.Must("sh", "-c", fmt.Sprintf(reach, "http://192.0.2.1:8080/"))
	if again := h.Must("sealane", "plan", "-f", "/run/file.yaml"); again != "" {
		t.Errorf("plan after apply:\n%s", again)
	}
}

// TestLinks follows the links between the pages.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)# ]*)(#[^) ]*)?\)`)
	for _, file := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			to := filepath.Join(filepath.Dir(file), m[1])
			if m[1] == "" {
				to = file
			}
			if _, err := os.Stat(filepath.Join(root, to)); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: no such page: %s", file, m[1])
			} else if m[2] != "" && !slices.Contains(anchors(text(t, to)), m[2][1:]) {
				t.Errorf("%s: no such heading: %s%s", file, m[1], m[2])
			}
		}
	}
}

// pages are the README and all that is below docs.
func pages(t *testing.T) []string {
	t.Helper()
	out := []string{"README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			out = append(out, strings.TrimPrefix(f, root+"/"))
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %v", out)
	}
	return out
}

// anchors are the names by which links lead to a page's headings.
func anchors(page string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(name, " ", "-"))
	}
	return out
}
