package engine

import (
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// TestGuestGoneInWords: of a container whose namespace is gone the log has a line,
// and nothing of what went with it; nor is that a fight.
func TestGuestGoneInWords(t *testing.T) {
	r := bare(t)
	r.prepare()
	var log logged
	r.e.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	r.ok(r.e.Start(r.ctx))
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:web")
	r.connected("app", "docker:web")
	for i := range 2 * enough {
		r.inn.restart("docker:web")
		if _, repairs, err := r.e.pass(r.ctx, "test"); err != nil || len(repairs) != 0 {
			t.Fatalf("repairs %v, %v", repairs, err)
		}
		eventually(t, "back", func() bool { return log.count("container connected") > i && !r.by("web").Away() })
	}
	if got := log.count("repair"); got != 0 {
		t.Errorf("%d repairs", got)
	}
	if away, back := log.count("container away"), log.count("container connected"); away != 2*enough || back != 2*enough {
		t.Errorf("away %d, connected %d, want %d", away, back, 2*enough)
	}
	r.k.Remove(kstate.Link{Name: r.by("web").Endpoints[0].Device()}.Key())
	_, _, err := r.e.pass(r.ctx, "test")
	r.ok(err)
	eventually(t, "what somebody else took is told", func() bool { return log.count("repair") > 0 })
}

// logged is a log in memory.
type logged struct {
	mu   sync.Mutex // protects the following
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// count returns how many lines have that message, or begin theirs so.
func (l *logged) count(msg string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), "msg="+msg+" ") + strings.Count(l.text.String(), `msg="`+msg)
}

// TestUnanswered: who cannot be asked is said once, with why.
func TestUnanswered(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.close(model.RuntimeDocker, true)
	_, _, err := r.e.Connect(r.ctx, "docker:web", EndpointSpec{Network: "app"}, nil)
	r.equal("by its runtime", err.Error(), "network app: connect docker:web: cannot be asked: connection refused")
	_, _, err = r.e.Connect(r.ctx, "web", EndpointSpec{Network: "app"}, nil)
	r.equal("by name", err.Error(), "network app: connect web: no such sandbox, nor a container that can be found: docker: cannot be asked: connection refused")
	_, err = r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "b", Mode: model.ModeShared, Donor: "docker:web"})
	r.equal("as a donor", err.Error(), "sandbox b: create: docker:web: cannot be asked: connection refused")
	r.equal("another error", unanswered(errClosed), "cannot be asked: connection refused")
	one := &runtime.Error{Guest: model.Guest{Runtime: model.RuntimeLXC, Name: "web"}, Err: errClosed}
	r.equal("one", unanswered(one), "lxc: cannot be asked: connection refused")
}
