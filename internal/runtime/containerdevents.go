package runtime

import (
	"context"
	"path/filepath"

	events "github.com/containerd/containerd/api/services/events/v1"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealane/sealane/internal/model"
)

// watch looks at the tasks' directories for what starts, and has containerd tell
// what is made or deleted.
func (c *containerd) watch(ctx context.Context, w *watcher) {
	go stay(ctx, c.socket, func(ctx context.Context) bool { return c.listen(ctx, w) })
	watchFiles(ctx, w, c)
}

// listen hints what containerd tells until the connection ends, and reports
// whether there was one.
func (c *containerd) listen(ctx context.Context, w *watcher) bool {
	api, err := c.dial()
	if err != nil {
		return false
	}
	defer api.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := events.NewEventsClient(api).Subscribe(ctx, &events.SubscribeRequest{
		Filters: []string{`topic=="/containers/create"`, `topic=="/containers/delete"`},
	})
	if err != nil {
		return false
	}
	w.hint(ctx, w.guests()...) // what came before is not told
	for {
		e, err := stream.Recv()
		if err != nil {
			return true
		}
		id := firstField(e.Event.GetValue())
		w.hintThose(ctx, func(g model.Guest) bool {
			return g.ID == e.Namespace+"/"+id || unbound(g)
		})
	}
}

// firstField returns field 1 of a message, which is the ID in both kinds of events
// that are asked for, or nothing if there is none.
func firstField(message []byte) string {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return ""
		}
		message = message[n:]
		if number == 1 && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			return string(value)
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return ""
		}
		message = message[n:]
	}
	return ""
}

func (c *containerd) dirs(g model.Guest, _ func(string) string) []string {
	if space, id := filepath.Split(g.ID); g.ID != "" && plain(id) && plain(filepath.Clean(space)) {
		return []string{filepath.Join(c.tasks(), space), filepath.Join(c.tasks(), g.ID)}
	}
	return nil
}

func (c *containerd) concerns(path string, g model.Guest) bool {
	if filepath.Base(path) == "init.pid" {
		path = filepath.Dir(path)
	}
	return path == filepath.Join(c.tasks(), g.ID)
}
