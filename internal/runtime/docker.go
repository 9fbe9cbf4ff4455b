package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/sealane/sealane/internal/model"
)

// answerTimeout bounds how long a runtime may take to answer a question.
const answerTimeout = 10 * time.Second

// docker asks dockerd.
type docker struct {
	host string // as DOCKER_HOST

	mu     sync.Mutex // protects the following
	client *client.Client
}

// socket returns the path of dockerd's socket, empty if it answers elsewhere.
func (d *docker) socket() string {
	if path, ok := strings.CutPrefix(d.host, "unix://"); ok {
		return path
	}
	return ""
}

func (d *docker) here() bool { return d.socket() == "" || exists(d.socket()) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// dial returns the client; a connection is made with the first question.
func (d *docker) dial() (*client.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == nil {
		c, err := client.New(client.FromEnv, client.WithHost(d.host))
		if err != nil {
			return nil, err
		}
		d.client = c
	}
	return d.client, nil
}

func (d *docker) find(ctx context.Context, g model.Guest) (Container, error) {
	ref := strings.TrimPrefix(g.Name, "/") // Docker takes its own form of a name too
	if g.ID != "" {
		ref = g.ID
	}
	if !plain(ref) {
		return Container{Guest: g}, nil
	}
	c, err := d.dial()
	if err != nil {
		return Container{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	seen, err := c.ContainerInspect(ctx, ref, client.ContainerInspectOptions{})
	switch {
	case errdefs.IsNotFound(err), err == nil && !meant(g, strings.TrimPrefix(seen.Container.Name, "/"), seen.Container.ID):
		return Container{Guest: g}, nil
	case client.IsErrConnectionFailed(err):
		return Container{}, fmt.Errorf("dockerd does not answer at %s", d.host)
	case errors.Is(err, context.DeadlineExceeded):
		return Container{}, fmt.Errorf("dockerd does not answer within %s", answerTimeout)
	case err != nil && g.Awaited && g.ID == "" && nobody(ctx, c, ref): // but several IDs begin so, which Docker makes an error of its own
		return Container{Guest: g}, nil
	case err != nil:
		return Container{}, oneLine(err)
	}
	if !plain(seen.Container.ID) {
		return Container{}, errors.New("dockerd answers with a container that has no ID")
	}
	return d.container(g, seen.Container)
}

// nobody reports whether Docker surely has no container of a name.
func nobody(ctx context.Context, c *client.Client, name string) bool {
	r, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("name", "^/"+regexp.QuoteMeta(name)+"$")})
	return err == nil && len(r.Items) == 0
}

func (d *docker) container(g model.Guest, seen container.InspectResponse) (Container, error) {
	g.Name, g.ID = strings.TrimPrefix(seen.Name, "/"), seen.ID
	if !plain(g.Name) {
		g.Name = g.ID
	}
	s := seen.State
	if s == nil || !s.Running || s.Pid <= 0 { // one that restarts is running, without a process
		return Container{Guest: g, State: Stopped}, nil
	}
	if d.socket() == "" && !belongs(s.Pid, seen.ID) {
		return Container{}, fmt.Errorf("dockerd at %s runs it elsewhere: process %d is not its here", d.host, s.Pid)
	}
	return running(g, s.Pid)
}

// plain reports whether a name may be one of a container: Docker's rule, which
// Podman and containerd have too.
func plain(name string) bool {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return name != ""
}

// oneLine returns an error whose text, which others wrote, is one line.
func oneLine(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

func (d *docker) watch(ctx context.Context, w *watcher) {
	go w.hintFresh(ctx)
	stay(ctx, d.socket(), func(ctx context.Context) bool { return d.listen(ctx, w) })
}

// listen hints what Docker tells until the connection ends, and reports whether
// there was one. What came before it is not told: all are hinted.
func (d *docker) listen(ctx context.Context, w *watcher) bool {
	c, err := d.dial()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := c.Events(ctx, client.EventsListOptions{Filters: client.Filters{}.
		Add("type", string(events.ContainerEventType)).
		Add("event", string(events.ActionStart), string(events.ActionDie), string(events.ActionDestroy), string(events.ActionRename), string(events.ActionCreate))})
	select {
	case <-stream.Err:
		return false
	default:
	}
	w.hint(ctx, w.guests()...)
	for {
		select {
		case m := <-stream.Messages:
			w.hintThose(ctx, func(g model.Guest) bool {
				return g.ID == m.Actor.ID || unbound(g) && named(g, m.Actor.Attributes["name"], m.Actor.ID)
			})
		case <-stream.Err:
			return true
		}
	}
}

// unbound reports whether a guest may come to be another container than the one it
// was, if it was any.
func unbound(g model.Guest) bool { return g.ID == "" || g.Awaited }

// named reports whether a guest's name is that of a container: its name or its ID.
func named(g model.Guest, name, id string) bool {
	ref := strings.TrimPrefix(g.Name, "/")
	return ref == name || ref == id
}

// meant reports whether a guest is the container that was found for it. The begin of
// an ID is good for what runs while it is typed; one that is awaited is so by its name,
// which IDs of others begin with by chance.
func meant(g model.Guest, name, id string) bool {
	if g.ID != "" {
		return id == g.ID
	}
	return !g.Awaited || named(g, name, id)
}
