package metrics

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

var update = flag.Bool("update", false, "write the list of docs/metrics.md anew")

// TestScrape finds each metric that is promised and no other, as Prometheus wants them.
func TestScrape(t *testing.T) {
	w := newWorld(t)
	w.fill(t)
	status, page := w.ask("GET", Path)
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, page)
	}
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if !strings.HasPrefix(p.Metric, "go_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (sealane_\S+)`).FindAllStringSubmatch(page, -1) {
		told[m[1]] = true
	}
	for _, f := range families() {
		if !told[f.name] && !rare[f.name] {
			t.Errorf("%s: not told", f.name)
		}
		delete(told, f.name)
	}
	if len(told) > 0 {
		t.Errorf("not in the table: %v", told)
	}
	for _, want := range []string{
		`sealane_build_info{goversion="go`, `sealane_network_ready{network="app"} 1`,
		`sealane_network_device_receive_bytes_total{device="eth0",network="lan"} 1.15`,
		`sealane_network_addresses{family="ipv6",network="app",state="free"} 1.8446744073709552e+19`,
		`sealane_published_ports{protocol="tcp"} 3`, `sealane_services{state="degraded"} 1`,
		`sealane_service_backends{network="mesh",service="www",state="ready"} 0`, `sealane_cluster_store_up 1`,
		`sealane_network_action_duration_seconds_count{action="service_create",result="ok"} 1`,
		`process_open_fds `, `go_goroutines `,
	} {
		if !strings.Contains(page, "\n"+want) {
			t.Errorf("nothing like %s", want)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

// rare needs more than the world has.
var rare = map[string]bool{
	"sealane_repairs_total": true, // somebody who breaks something: the script metrics has one
}

// TestStoreAway is told within the time that a host takes to notice.
func TestStoreAway(t *testing.T) {
	w := newWorld(t)
	for _, away := range []bool{false, true, false} {
		w.store.SetAway(away)
		want := fmt.Sprintf("\nsealane_cluster_store_up %v\n", yes(!away))
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if _, page := w.ask("GET", Path); strings.Contains(page, want) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("away %v: not told", away)
			}
		}
	}
}

func TestOnlyQuestionsAreAnswered(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", Path, 200}, {"HEAD", Path, 200}, {"POST", Path, 405}, {"PUT", Path, 405}, {"DELETE", Path, 405}, {"OPTIONS", Path, 405},
		{"GET", "/", 404}, {"GET", "/metrics/x", 404}, {"GET", "/debug/pprof/", 404}, {"GET", "/v1/networks", 404},
	} {
		if got, _ := w.ask(c.method, c.path); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, got, c.want)
		}
	}
}

func TestParseAddr(t *testing.T) {
	for text, want := range map[string]Addr{
		"127.0.0.1:9090": {"tcp", "127.0.0.1:9090"}, "[::1]:9090": {"tcp", "[::1]:9090"}, ":9090": {"tcp", ":9090"},
		"[fe80::1%eth0]:9090": {"tcp", "[fe80::1%eth0]:9090"}, "unix:/run/m.sock": {"unix", "/run/m.sock"},
	} {
		if got, err := ParseAddr(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{
		"", "9090", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:http", "::1:9090", "[::1]",
		"localhost:9090", "example.com:80", "unix:", "unix:m.sock", "http://127.0.0.1:9090", "127.0.0.1:9090/metrics", "1.2.3:9090", "\x00:1",
	} {
		if got, err := ParseAddr(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// TestManual has docs/metrics.md list all metrics, as they say of themselves.
func TestManual(t *testing.T) {
	const path, begin, end = "../../docs/metrics.md", "<!-- generated: go test ./internal/metrics -update -->\n", "<!-- end -->\n"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	have, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s: no list", path)
	}
	var list strings.Builder
	list.WriteString("| metric | labels | |\n|---|---|---|\n")
	for _, f := range families() {
		labels := strings.Join(f.labels, "`, `")
		if labels != "" {
			labels = "`" + labels + "`"
		}
		fmt.Fprintf(&list, "| `%s` (%s) | %s | %s |\n", f.name, f.kind, labels, f.help)
	}
	if have == list.String() {
		return
	}
	if !*update {
		t.Fatalf("%s: is not what the program says; go test ./internal/metrics -update", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+list.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkScrape asks a host with 3,000 endpoints.
func BenchmarkScrape(b *testing.B) {
	w := newWorld(b)
	w.crowd(b, 3000)
	for b.Loop() {
		if status, _ := w.ask("GET", Path); status != http.StatusOK {
			b.Fatal(status)
		}
	}
}
