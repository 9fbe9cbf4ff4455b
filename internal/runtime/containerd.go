package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	namespacesv1 "github.com/containerd/containerd/api/services/namespaces/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sealane/sealane/internal/model"
)

// containerd knows containers by a namespace and an ID, which are the ID together:
// NAMESPACE/ID. What runs has a directory, so it is found also while containerd is
// away; of all else only containerd knows.
//
//	STATE/io.containerd.runtime.v2.task/NAMESPACE/ID/init.pid
type containerd struct{ socket, state string }

// dockers is the namespace of Docker's containers, which have better names there.
const dockers = "moby"

func (c *containerd) tasks() string { return filepath.Join(c.state, "io.containerd.runtime.v2.task") }

func (c *containerd) here() bool { return exists(c.socket) }

func (c *containerd) find(ctx context.Context, g model.Guest) (Container, error) {
	ref := g.Name
	if g.ID != "" {
		ref = g.ID
	}
	space, id, both := strings.Cut(ref, "/")
	if !both {
		space, id = "", ref
	}
	if !plain(id) || both && !plain(space) {
		return Container{Guest: g}, nil
	}
	if g.ID != "" {
		return c.bound(ctx, g, space, id)
	}
	return c.meant(ctx, g, space, id)
}

// bound finds a container by its namespace and ID.
func (c *containerd) bound(ctx context.Context, g model.Guest, space, id string) (Container, error) {
	if found, err := c.task(g, space, id); err != nil || found.State == Running {
		return found, err
	}
	api, err := c.dial()
	if err != nil {
		return Container{}, err
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(in(ctx, space), answerTimeout)
	defer cancel()
	_, err = containers.NewContainersClient(api).Get(ctx, &containers.GetContainerRequest{ID: id})
	switch {
	case status.Code(err) == codes.NotFound:
		return Container{Guest: g}, nil
	case err != nil:
		return Container{}, c.explain(err)
	}
	return c.task(g, space, id)
}

// meant finds the container that a user means. While containerd is away that can
// be one that runs.
func (c *containerd) meant(ctx context.Context, g model.Guest, space, id string) (Container, error) {
	ids, err := c.ask(ctx, space, id)
	if err != nil {
		if ids = c.onDisk(space, id); len(ids) == 0 {
			return Container{}, c.explain(err)
		}
	}
	if len(ids) == 0 {
		return Container{Guest: g}, nil
	}
	if len(ids) > 1 {
		return Container{}, fmt.Errorf("it may be %s", strings.Join(ids, " or "))
	}
	space, id, _ = strings.Cut(ids[0], "/")
	return c.task(g, space, id)
}

// task returns a container that exists: Running if its first process runs.
func (c *containerd) task(g model.Guest, space, id string) (Container, error) {
	g.ID = space + "/" + id
	g.Name = g.ID
	if pid := readPID(filepath.Join(c.tasks(), space, id, "init.pid")); pid != 0 && belongs(pid, id) {
		return running(g, pid)
	}
	return Container{Guest: g, State: Stopped}, nil
}

// onDisk lists the containers of that ID that have a task, in one namespace or, if
// that is empty, in all but Docker's.
func (c *containerd) onDisk(space, id string) (ids []string) {
	spaces := []string{space}
	if space == "" {
		spaces = nil
		entries, _ := os.ReadDir(c.tasks())
		for _, e := range entries {
			if e.Name() != dockers {
				spaces = append(spaces, e.Name())
			}
		}
	}
	for _, s := range spaces {
		if exists(filepath.Join(c.tasks(), s, id)) {
			ids = append(ids, s+"/"+id)
		}
	}
	return ids
}

// ask lists the containers that a user may mean, as onDisk does: that of the ID or
// else, as nerdctl does, that of the name, or those whose IDs begin so.
func (c *containerd) ask(ctx context.Context, space, id string) (ids []string, err error) {
	api, err := c.dial()
	if err != nil {
		return nil, err
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	spaces := []string{space}
	if space == "" {
		if spaces, err = c.spaces(ctx, api); err != nil {
			return nil, err
		}
	}
	var exact, others []string
	for _, s := range spaces {
		// The ID has no character that means something in a filter, but a dot.
		list, err := containers.NewContainersClient(api).List(in(ctx, s), &containers.ListContainersRequest{Filters: []string{
			"id~=/^" + strings.ReplaceAll(id, ".", `\.`) + "/", `labels."nerdctl/name"==` + id,
		}})
		if err != nil {
			return nil, err
		}
		for _, found := range list.Containers {
			switch ref := s + "/" + found.ID; {
			case found.ID == id || found.Labels["nerdctl/name"] == id:
				exact = append(exact, ref)
			case plain(found.ID):
				others = append(others, ref)
			}
		}
	}
	if len(exact) > 0 {
		return exact, nil
	}
	return others, nil
}

// spaces lists the namespaces without Docker's.
func (c *containerd) spaces(ctx context.Context, api grpc.ClientConnInterface) (names []string, err error) {
	list, err := namespacesv1.NewNamespacesClient(api).List(ctx, &namespacesv1.ListNamespacesRequest{})
	if err != nil {
		return nil, err
	}
	for _, s := range list.Namespaces {
		if s.Name != dockers && plain(s.Name) {
			names = append(names, s.Name)
		}
	}
	return names, nil
}

// dial returns a connection that is made with the first question. Each question
// makes its own: a lasting one would wait before it tries again.
func (c *containerd) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///containerd", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.socket)
		}))
}

// in says which namespace a question is about.
func in(ctx context.Context, space string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", space)
}

func (c *containerd) explain(err error) error {
	switch s, _ := status.FromError(err); s.Code() {
	case codes.Unavailable:
		return fmt.Errorf("containerd does not answer at %s", c.socket)
	case codes.DeadlineExceeded:
		return fmt.Errorf("containerd does not answer within %s", answerTimeout)
	default:
		return oneLine(errors.New(s.Message()))
	}
}
