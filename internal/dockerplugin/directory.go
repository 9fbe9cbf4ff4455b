package dockerplugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/sealane/sealane/internal/model"
)

// Docker tells a driver neither what a network is called, nor which container an
// endpoint is for, nor what it is renamed to, nor, if the driver was away, what
// has gone. All that Docker's API says. Its events only tell when to ask: what is
// missed of them is found by the next question.

// How often Docker is asked: soon after it has told of something, once a second
// while somebody has no name or is perhaps gone, and now and then in any case.
const (
	settle  = 50 * time.Millisecond // events come in bursts
	askSoon = time.Second
	askIdle = 30 * time.Second
)

// grace is how long Docker may not know an endpoint before it is taken for gone:
// Docker notes one after it has told us. One that it had noted it takes back with
// its next call, if that reaches us. A pool it may hold for longer before it
// has a network, made by another plugin: each call to one may take 30 s.
const (
	grace      = 20 * time.Second
	graceKnown = time.Second
	gracePool  = 40 * time.Second
)

// Directory asks Docker for names.
type Directory struct {
	engine Engine
	came   <-chan struct{}
	docker *client.Client
	events *client.Client // for itself: a client's first call keeps all others waiting, whatever their time
	now    func() time.Time
	named  map[model.ID]string    // how Docker called an endpoint's container when it was asked for that
	missed map[model.ID]time.Time // networks, pools, endpoints and addresses that Docker did not know, since when
	former atomic.Pointer[set]    // those that there were when sealaned began, or dockerd ended
	turn   chan struct{}          // has a value while somebody compares

	sweeping sync.Mutex  // held while somebody sweeps
	silent   atomic.Bool // Docker left a sweep without an answer, and has answered nobody since
}

// NewDirectory returns one for the dockerd that the environment names
// (DOCKER_HOST), or that of this host. The plugin asks it too; it must not serve yet.
func NewDirectory(p *Plugin) (*Directory, error) {
	events, err := client.New(client.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	options := []client.Opt{client.FromEnv}
	if proto, _, _ := strings.Cut(events.DaemonHost(), ":"); proto == "unix" || proto == "tcp" { // what its dialer can
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return events.Dialer()(ctx) }
		options = append(options, client.WithHTTPClient(&http.Client{Transport: legible{&http.Transport{DialContext: dial}}}))
	}
	c, err := client.New(options...)
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	d := &Directory{engine: p.engine, came: p.came, docker: c, events: events, now: time.Now, named: map[model.ID]string{}, turn: make(chan struct{}, 1)}
	d.remember()
	p.sweep = d.sweep
	return d, nil
}

// legible makes what Docker says of networks what its client reads: the gateway that it
// chose itself for IPv6 has its subnet's length there (buildIpamResources in moby's
// daemon/network.go), and is an address.
type legible struct{ *http.Transport }

var gatewayWithLength = regexp.MustCompile(`("Gateway":\s*"[0-9a-fA-F:.]+)/[0-9]+"`)

// RoundTrip is [http.Transport.RoundTrip].
func (l legible) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.Transport.RoundTrip(r)
	if err != nil || !strings.Contains(r.URL.Path, "/networks") {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	body = gatewayWithLength.ReplaceAll(body, []byte(`$1"`))
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}

// Follow keeps names as Docker has them until ctx is done. What goes wrong, other
// than that Docker is not there, is told to report, once as long as it is the same.
// It does not look for a Docker that has nothing of ours.
func (d *Directory) Follow(ctx context.Context, report func(error)) {
	defer d.docker.Close()
	defer d.events.Close()
	var news <-chan struct{}
	for said := ""; ; {
		if news == nil && len(d.networks()) > 0 {
			news = d.listen(ctx)
		}
		began := time.Now()
		again, err := d.look(ctx)
		if now := fmt.Sprint(err); now != said && !client.IsErrConnectionFailed(err) && ctx.Err() == nil {
			if said = now; err != nil {
				report(err)
			}
		}
		took, next := time.Since(began), askIdle
		if again {
			next = askSoon
		}
		select {
		case <-ctx.Done():
			return
		case <-d.came:
		case <-news:
			if !rest(ctx, max(settle, took)) {
				return
			}
		case <-time.After(next):
		}
	}
}

// networks returns those of Docker's, and the pools.
func (d *Directory) networks() (out []*model.Network) {
	for _, n := range d.engine.Networks() {
		if n.Whose() == model.OriginDocker {
			out = append(out, n)
		}
	}
	return out
}

// rest waits, and reports false when ctx is done meanwhile.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// listen has Docker tell when something may have changed that concerns us, and
// tries again every second when that ends.
func (d *Directory) listen(ctx context.Context) <-chan struct{} {
	news := make(chan struct{}, 1)
	tell := func() {
		select {
		case news <- struct{}{}:
		default: // one waits already
		}
	}
	filters := client.Filters{}.Add("type", string(events.ContainerEventType), string(events.NetworkEventType)).
		Add("event", string(events.ActionRename), string(events.ActionConnect), string(events.ActionDisconnect), string(events.ActionCreate), string(events.ActionDestroy))
	go func() {
		for first := true; first || rest(ctx, askSoon); first = false {
			stream := d.events.Events(ctx, client.EventsListOptions{Filters: filters})
			tell() // of what was before it began
			for open := true; open; {
				select {
				case <-stream.Messages:
					tell()
				case <-stream.Err:
					open = false
					d.remember()
				}
			}
		}
	}()
	return news
}

// look compares what we have of Docker's with what Docker says, once. It reports
// whether it is to be asked again soon: somebody is still without a name, or
// perhaps gone.
func (d *Directory) look(ctx context.Context) (again bool, err error) {
	missed := map[model.ID]time.Time{}
	gone := func(id model.ID, enough time.Duration, _ ...netip.Prefix) bool {
		since, ok := d.missed[id]
		if !ok {
			since = d.now()
		}
		missed[id] = since
		if d.named[id] != "" {
			enough = graceKnown
		}
		return ok && d.now().Sub(since) > enough
	}
	var naming naming
	err = d.compare(ctx, gone, func(n *model.Network, seen network.Inspect) error {
		d.containers(n, seen.Containers, &naming)
		return d.network(ctx, n, seen)
	})
	d.silent.Store(false)
	if client.IsErrConnectionFailed(err) {
		return false, err // it tells when it is back
	}
	d.missed = missed
	err = errors.Join(err, d.name(ctx, naming))
	return d.forget() || len(missed) > 0, err
}

// set is of networks, pools, endpoints and addresses.
type set map[model.ID]bool

// remember notes what we have of Docker's. No call is under way: if Docker does not know
// something of it from now on, it never will.
func (d *Directory) remember() {
	all := set{}
	for _, n := range d.networks() {
		all[n.ID] = true
		for id := range d.endpoints(n) {
			all[id] = true
		}
		for _, s := range n.Subnets {
			for _, a := range s.Lent {
				all[model.ID(a.String())] = true
			}
		}
	}
	d.former.Store(&all)
}

// forget drops the names of those that went. It reports whether some of the others
// have none.
func (d *Directory) forget() (waiting bool) {
	there := map[model.ID]bool{}
	for _, sb := range d.engine.Sandboxes() {
		for _, ep := range sb.Endpoints {
			there[ep.ID] = true
			waiting = waiting || ep.Handed && d.named[ep.ID] == ""
		}
	}
	maps.DeleteFunc(d.named, func(id model.ID, _ string) bool { return !there[id] })
	return waiting
}
