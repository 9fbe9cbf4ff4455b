package dockerplugin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/model"
)

// docker answers what a Directory asks of dockerd's API.
type docker struct {
	*httptest.Server

	mu         sync.Mutex               // protects the following
	networks   []dockerNetwork          // that there are
	containers map[string]*dockerName   // by ID
	streams    map[chan string]struct{} // who listens to events
	asked      map[string]int           // how often, by the first word of the path
	silent     chan struct{}            // if not nil, nobody is answered before it is closed
}

type dockerNetwork struct {
	ID, Name string
	IPAM     map[string]any
	// Containers on it: ID → name and endpoint.
	Containers map[string]map[string]string
}

type dockerName struct {
	name   string
	starts bool // it does not run yet
}

func newDocker(t *testing.T) *docker {
	d := &docker{containers: map[string]*dockerName{}, streams: map[chan string]struct{}{}, asked: map[string]int{}}
	d.Server = httptest.NewServer(d)
	d.URL = strings.Replace(d.URL, "http:", "tcp:", 1) // as DOCKER_HOST has it
	t.Cleanup(d.Close)
	return d
}

// ServeHTTP answers as an API of version 1.41.
func (d *docker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if strings.HasPrefix(parts[0], "v1.") {
		parts = parts[1:]
	}
	d.mu.Lock()
	d.asked[parts[0]]++
	answer := d.answer(parts)
	silent := d.silent
	d.mu.Unlock()
	if silent != nil {
		select {
		case <-silent:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case parts[0] == "events":
		d.stream(w, r)
	case answer == nil:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintln(w, `{"message":"no such thing"}`)
	default:
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (d *docker) answer(parts []string) any {
	switch {
	case parts[0] == "_ping":
		return "OK"
	case parts[0] == "networks" && len(parts) == 1:
		return append([]dockerNetwork{}, d.networks...)
	case parts[0] == "networks":
		for _, n := range d.networks {
			if strings.HasPrefix(n.ID, parts[1]) {
				return n
			}
		}
	case parts[0] == "containers" && d.containers[parts[1]] != nil:
		return map[string]any{"Id": parts[1], "Name": "/" + d.containers[parts[1]].name, "Config": map[string]any{"Hostname": "host"},
			"State": map[string]any{"Running": !d.containers[parts[1]].starts}, "NetworkSettings": map[string]any{"Networks": map[string]any{}}}
	}
	return nil
}

func (d *docker) stream(w http.ResponseWriter, r *http.Request) {
	ch := make(chan string, 10)
	d.mu.Lock()
	d.streams[ch] = struct{}{}
	d.mu.Unlock()
	w.(http.Flusher).Flush()
	for {
		select {
		case text, ok := <-ch:
			if !ok {
				return
			}
			fmt.Fprintln(w, text)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// change changes what there is, and tells those who listen if it is an event.
func (d *docker) change(event string, f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	for ch := range d.streams {
		if event != "" {
			ch <- `{"Type":"container","Action":"` + event + `"}`
		}
	}
}

// hangUp ends all streams.
func (d *docker) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ch := range d.streams {
		close(ch)
		delete(d.streams, ch)
	}
}

// container is a container on the network of the seeds, by the seeds' endpoint.
func (d *docker) container(id, name string) func() {
	return func() {
		d.containers[id] = &dockerName{name: name}
		d.networks[0].Containers = map[string]map[string]string{id: {"Name": name, "EndpointID": fuzzEndpoint, "IPv4Address": "10.5.0.16/24"}}
	}
}

func (d *docker) network(name string, config ...map[string]any) func() {
	return func() {
		d.networks = []dockerNetwork{{ID: fuzzNetwork, Name: name, IPAM: map[string]any{"Driver": "default", "Config": config}}}
	}
}

// rig is a plugin, and the Directory that goes with it.
type rig struct {
	*testing.T
	*Plugin
	e *engine.Engine
	k *fake.Kernel
	d *Directory
}

func newRig(t *testing.T, host string) *rig {
	t.Helper()
	e, k := newEngineOn(t)
	r := &rig{T: t, Plugin: New(e), e: e, k: k}
	t.Setenv("DOCKER_HOST", host)
	var err error
	if r.d, err = NewDirectory(r.Plugin); err != nil {
		t.Fatal(err)
	}
	return r
}

// made makes the seeds' network, and a container on it, of which Docker gives out
// the addresses.
func (r *rig) made(seeds ...int) {
	r.Helper()
	for _, i := range seeds {
		r.must(i)
	}
}

func (r *rig) must(seed int) {
	r.Helper()
	if _, text := ask(r.Plugin, "/"+seeds[seed].method, seeds[seed].body); strings.Contains(text, `"Err`) {
		r.Fatalf("%s: %s", seeds[seed].method, text)
	}
}

// The seeds' calls.
const (
	callPool     = 0
	callNetwork  = 2
	callEndpoint = 4
	callJoin     = 5
	callPublish  = 6
)

// look asks Docker once.
func (r *rig) look() (again bool) {
	r.Helper()
	again, err := r.d.look(r.Context())
	if err != nil {
		r.Error(err)
	}
	return again
}

func (r *rig) sandbox() string {
	if sb := r.e.ByEndpoint(model.ID(fuzzEndpoint[:model.IDLen])); sb != nil {
		return sb.Name
	}
	return ""
}

// TestNamesFollow: a name is taken over when Docker has it, and when it changes,
// and Docker is asked for no more than it has to be.
func TestNamesFollow(t *testing.T) {
	docker := newDocker(t)
	r := newRig(t, docker.URL)
	r.made(callNetwork, callEndpoint, callJoin)
	docker.change("", docker.network("app"))
	docker.change("", docker.container("c0", "web"))
	docker.change("", func() { docker.containers["c0"].starts = true })
	if again := r.look(); !again || r.sandbox() != "web" {
		t.Errorf("before it runs: named %q, again %v", r.sandbox(), again)
	}
	docker.change("", docker.container("c0", "web"))
	if again := r.look(); again || r.sandbox() != "web" {
		t.Errorf("named %q, again %v", r.sandbox(), again)
	}
	r.look()
	if n := docker.asked["containers"]; n != 2 {
		t.Errorf("asked %d times for a container whose name is known", n)
	}
	docker.change("", docker.container("c0", "site"))
	if again := r.look(); again || r.sandbox() != "site" {
		t.Errorf("renamed to %q, again %v", r.sandbox(), again)
	}
	if _, err := r.e.CreateSandbox(t.Context(), engine.SandboxSpec{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	docker.change("", docker.container("c0", "mine"))
	if again := r.look(); again || r.sandbox() != "docker-mine" {
		t.Errorf("renamed to %q, again %v", r.sandbox(), again)
	}
	if err := r.e.RemoveSandbox(t.Context(), "mine", false); err != nil {
		t.Fatal(err)
	}
	if r.look(); r.sandbox() != "mine" {
		t.Errorf("the name is free, and it is %q", r.sandbox())
	}
}

// TestGatewayWithLength: Docker says a gateway that it chose itself with its subnet's
// length, of IPv6, and has a name for its network all the same; also of another's.
func TestGatewayWithLength(t *testing.T) {
	docker := newDocker(t)
	r := newRig(t, docker.URL)
	r.made(callPool, callNetwork, callEndpoint, callJoin)
	docker.change("", docker.network("app", map[string]any{"Subnet": "10.5.0.0/24", "Gateway": "10.5.0.1"}, map[string]any{"Subnet": "fd05::/64", "Gateway": "fd05::1/64"}))
	docker.change("", docker.container("c0", "web"))
	r.look()
	if n, _ := r.e.Network(fuzzNetwork[:model.IDLen]); n == nil || n.Name != "app" || r.sandbox() != "web" {
		t.Errorf("network %+v, container %s", n, r.sandbox())
	}
	if _, text := ask(r.Plugin, "/IpamDriver.RequestPool", `{"Pool":"10.9.0.0/24"}`); strings.Contains(text, "Error") {
		t.Fatal(text)
	}
	now := time.Now()
	r.d.now = func() time.Time { now = now.Add(gracePool); return now }
	for range 3 {
		r.look()
	}
	if n, _ := r.e.Network("pool-10.9.0.0-24"); n != nil {
		t.Error("the pool of no network is there")
	}
}

// TestRange: where Docker gives out the addresses, its range is noted.
func TestRange(t *testing.T) {
	docker := newDocker(t)
	r := newRig(t, docker.URL)
	r.made(callNetwork)
	theirs := func() string {
		n, err := r.e.Network(fuzzNetwork[:model.IDLen])
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(n.Subnets[0].Theirs, " ", n.Subnets[1].Theirs)
	}
	if got := theirs(); got != "10.5.0.0/24 fd05::/64" {
		t.Errorf("at first theirs is %s", got)
	}
	docker.change("", docker.network("app", map[string]any{"Subnet": "10.5.0.0/24", "IPRange": "10.5.0.128/25"}, map[string]any{"Subnet": "fd05::/64"}))
	if r.look(); theirs() != "10.5.0.128/25 fd05::/64" {
		t.Errorf("theirs is %s", theirs())
	}
}

// TestGone: what Docker does not know for its time goes, and not before.
func TestGone(t *testing.T) {
	for _, c := range []struct {
		name  string
		seeds []int
		knows func(*docker) // what makes it stay
		else_ func(*docker) // what Docker knows besides
		grace time.Duration
	}{
		{"pool", []int{callPool}, func(d *docker) {
			d.network("other", map[string]any{"Subnet": "10.5.0.0/24"})()
			d.networks[0].ID = strings.Repeat("c", 16)
		}, func(d *docker) { d.network("other", map[string]any{"Subnet": "10.6.0.0/24"})() }, gracePool},
		{"network", []int{callNetwork}, func(d *docker) { d.network("app")() }, func(*docker) {}, grace},
		{"endpoint that waits", []int{callNetwork, callEndpoint},
			func(d *docker) { d.network("app")(); d.container("ep-x", "web")() }, func(d *docker) { d.network("app")() }, grace},
		{"endpoint", []int{callNetwork, callEndpoint, callJoin},
			func(d *docker) { d.network("app")(); d.container("c0", "web")() }, func(d *docker) { d.network("app")() }, graceKnown},
	} {
		t.Run(c.name, func(t *testing.T) {
			docker := newDocker(t)
			r := newRig(t, docker.URL)
			r.made(c.seeds...)
			now := time.Now()
			r.d.now = func() time.Time { return now }
			pass := func(d time.Duration) { now = now.Add(d); r.look() }
			docker.change("", func() { c.knows(docker) })
			r.look()
			whole := intent(r.e)
			pass(10 * c.grace)
			docker.change("", func() { docker.networks = nil; c.else_(docker) })
			pass(0)
			pass(c.grace)
			docker.change("", func() { c.knows(docker) })
			pass(0) // it was not gone
			docker.change("", func() { docker.networks = nil; c.else_(docker) })
			pass(0)
			pass(c.grace)
			if now := intent(r.e); now != whole {
				t.Errorf("there is\n%s\nwhere was\n%s", now, whole)
			}
			pass(time.Nanosecond)
			if now := intent(r.e); len(now) >= len(whole) {
				t.Errorf("there is still\n%s", now)
			}
			if left := len(r.d.missed); left > 0 {
				r.look()
			}
			if len(r.d.missed) > 0 {
				t.Errorf("missed for ever: %v", r.d.missed)
			}
		})
	}
}

// TestPoolsOfAnySubnet stay: Docker may say of a network what it asked for, not
// what it got.
func TestPoolsOfAnySubnet(t *testing.T) {
	docker := newDocker(t)
	r := newRig(t, docker.URL)
	r.made(callPool)
	docker.change("", docker.network("other", map[string]any{"Subnet": "0.0.0.0/24"}))
	now := time.Now()
	r.d.now = func() time.Time { now = now.Add(gracePool); return now }
	for range 3 {
		r.look()
	}
	if n, _ := r.e.Network("pool-10.5.0.0-24"); n == nil {
		t.Error("the pool is gone")
	}
}

// TestFollow: an event is followed at once, a stream that ends is opened again, and
// what changed meanwhile is found; an error is told once.
func TestFollow(t *testing.T) {
	docker := newDocker(t)
	r := newRig(t, docker.URL)
	var told []string
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.d.Follow(ctx, func(err error) { told = append(told, err.Error()) })
	}()
	time.Sleep(2 * settle)
	docker.change("", func() {
		if len(docker.asked) > 0 {
			t.Errorf("it asks Docker %v before that has anything of ours", docker.asked)
		}
	})
	r.made(callNetwork, callEndpoint, callJoin)
	docker.change("create", docker.network("app"))
	docker.change("connect", docker.container("c0", "web"))
	is := func(name string, limit time.Duration) {
		t.Helper()
		end := time.Now().Add(limit)
		for r.sandbox() != name && time.Now().Before(end) {
			time.Sleep(5 * time.Millisecond)
		}
		if r.sandbox() != name {
			t.Errorf("%q is not %q within %v", r.sandbox(), name, limit)
		}
	}
	is("web", 3*askSoon)
	docker.change("rename", docker.container("c0", "site"))
	is("site", askSoon)
	docker.hangUp()
	docker.change("", docker.container("c0", "meanwhile"))
	is("meanwhile", 3*askSoon)
	docker.change("rename", docker.container("c0", "-x")) // no name of Docker's
	docker.change("rename", func() {})
	time.Sleep(2 * askSoon)
	docker.change("rename", docker.container("c0", "good"))
	is("good", askSoon)
	end()
	<-done
	if len(told) != 1 || !strings.Contains(told[0], "-x") {
		t.Errorf("told %q, want one error", told)
	}
}
