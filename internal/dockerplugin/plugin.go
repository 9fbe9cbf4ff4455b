// Package dockerplugin lets Docker use Sealane's networks: the plugin protocol
// for network and IPAM drivers (libnetwork/drivers/remote and
// libnetwork/ipams/remote in moby), translated to the engine. It keeps nothing:
// Docker's networks, addresses and containers are the engine's intent, under the
// first twelve digits of Docker's IDs.
//
// Docker makes a container's namespace after its last call to us, and tells
// nobody. So we give it the far end of a veth in the host, and it takes that into
// the container, names it and gives it the addresses and routes that it has
// heard from us. What is on the host stays ours: bridge, guard and ports.
package dockerplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// Socket is where dockerd looks for a plugin called sealane.
const Socket = socketDir + "/sealane.sock"

// Engine is what the plugin needs of the engine.
type Engine interface {
	CreateNetwork(context.Context, engine.NetworkSpec) (*model.Network, error)
	TakeFabric(context.Context, engine.NetworkSpec) error
	TakeOverlay(context.Context, engine.NetworkSpec) error
	RemoveNetworkOf(ctx context.Context, origin, ref string) error
	Network(ref string) (*model.Network, error)
	Networks() []*model.Network
	NameNetwork(ctx context.Context, id model.ID, name, origin string) error

	Expect(ctx context.Context, network string, w model.Waiting) error
	Join(ctx context.Context, netns, origin string, spec engine.EndpointSpec) (*model.Sandbox, *model.Endpoint, error)
	Part(ctx context.Context, endpoint model.ID) error
	ByEndpoint(model.ID) *model.Sandbox
	Sandboxes() []*model.Sandbox
	Inhabited(context.Context) ([]*model.Sandbox, error)
	NameSandbox(ctx context.Context, id model.ID, as engine.ContainerNames) error
	Carry(ctx context.Context, id model.ID, ports []model.PortMapping) error
	Unpublish(ctx context.Context, ref string, ports []model.PortMapping) error

	RequestPool(context.Context, model.Subnet) (netip.Prefix, error)
	ReleasePool(context.Context, netip.Prefix) error
	RequestAddress(ctx context.Context, pool netip.Prefix, want netip.Addr) (netip.Prefix, error)
	ReleaseAddress(ctx context.Context, pool netip.Prefix, addr netip.Addr) error
	Yield(ctx context.Context, network model.ID, parts []netip.Prefix) error
}

// Plugin answers Docker. It is a http.Handler.
type Plugin struct {
	engine Engine
	routes map[string]route

	came  chan struct{}                         // has a value after a network or a pool came
	sweep func(context.Context, []netip.Prefix) // see Directory; nil: nobody can ask Docker
}

// route answers one method: the request's body, and the answer or an error.
type route func(ctx context.Context, body []byte) (any, error)

// New returns the plugin.
func New(e Engine) *Plugin {
	p := &Plugin{engine: e, came: make(chan struct{}, 1)}
	p.routes = map[string]route{
		"/Plugin.Activate": answer(func(context.Context, struct{}) (any, error) {
			return map[string][]string{"Implements": {"NetworkDriver", "IpamDriver"}}, nil
		}),
		"/NetworkDriver.GetCapabilities": answer(func(context.Context, struct{}) (any, error) {
			return capabilities{Scope: "local", ConnectivityScope: "local"}, nil
		}),
		"/NetworkDriver.AllocateNetwork":             answer(p.notGlobal),
		"/NetworkDriver.FreeNetwork":                 answer(p.notGlobal),
		"/NetworkDriver.CreateNetwork":               answer(p.createNetwork),
		"/NetworkDriver.DeleteNetwork":               answer(p.deleteNetwork),
		"/NetworkDriver.CreateEndpoint":              answer(p.createEndpoint),
		"/NetworkDriver.DeleteEndpoint":              answer(p.deleteEndpoint),
		"/NetworkDriver.EndpointOperInfo":            answer(p.endpointInfo),
		"/NetworkDriver.Join":                        answer(p.join),
		"/NetworkDriver.Leave":                       answer(p.leave),
		"/NetworkDriver.ProgramExternalConnectivity": answer(p.publish),
		"/NetworkDriver.RevokeExternalConnectivity":  answer(p.unpublish),
		"/NetworkDriver.GwAllocCheck":                answer(nothing),
		"/NetworkDriver.DiscoverNew":                 answer(nothing),
		"/NetworkDriver.DiscoverDelete":              answer(nothing),

		"/IpamDriver.GetCapabilities": answer(nothing),
		"/IpamDriver.GetDefaultAddressSpaces": answer(func(context.Context, struct{}) (any, error) {
			return addressSpaces{Local: "SealaneLocal", Global: "SealaneGlobal"}, nil
		}),
		"/IpamDriver.RequestPool":    answer(p.requestPool),
		"/IpamDriver.ReleasePool":    answer(p.releasePool),
		"/IpamDriver.RequestAddress": answer(p.requestAddress),
		"/IpamDriver.ReleaseAddress": answer(p.releaseAddress),
	}
	return p
}

// nothing answers what Docker asks or tells and we need not know.
func nothing(context.Context, struct{}) (any, error) { return struct{}{}, nil }

func (p *Plugin) notGlobal(context.Context, struct{}) (any, error) {
	return nil, fmt.Errorf("sealane is a driver of networks of one host, not of a swarm's")
}

// errCutOff is about a call without its arguments. Docker repeats a call whose answer
// it did not get, and has sent the body by then (callWithRetry in moby's
// pkg/plugins/client.go): it comes a second time with none.
var errCutOff = errors.New("sealaned ended in the middle of this, and is back: try again")

// answer makes a route of a function.
func answer[In any](fn func(context.Context, In) (any, error)) route {
	return func(ctx context.Context, body []byte) (any, error) {
		var in In
		if len(body) > 0 {
			if err := json.Unmarshal(body, &in); err != nil {
				return nil, fmt.Errorf("request: %w", err)
			}
		} else if _, none := any(in).(struct{}); !none {
			return nil, errCutOff
		}
		return fn(ctx, in)
	}
}

// insist does what Docker asks for, once more if something that Docker has no more is
// perhaps in the way: of want, or a port.
func (p *Plugin) insist(ctx context.Context, do func() error, want ...netip.Prefix) error {
	err := do()
	if kind := model.KindOf(err); p.sweep != nil && (kind == model.Conflict || kind == model.Exhausted) {
		p.sweep(ctx, want)
		err = do()
	}
	return err
}

// maxBody bounds a request: Docker's largest carry a container's ports, some
// 100 bytes each.
const maxBody = 16 << 20

// mediaType is what dockerd accepts (pkg/plugins/transport in moby).
const mediaType = "application/vnd.docker.plugins.v1.2+json"

// ServeHTTP answers one call. An error is an answer too: in a field that is named
// differently in the two protocols.
func (p *Plugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fn, ok := p.routes[r.URL.Path]
	switch {
	case !ok:
		http.Error(w, fmt.Sprintf("%s: not a method of this plugin", r.URL.Path), http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		http.Error(w, r.Method+": want POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var out any
	if err == nil {
		out, err = fn(r.Context(), body)
	}
	if err != nil {
		field := "Err"
		if strings.HasPrefix(r.URL.Path, "/IpamDriver.") {
			field = "Error"
		}
		out = map[string]string{field: strings.Join(model.Lines(err), "; ")}
	}
	w.Header().Set("Content-Type", mediaType)
	_ = json.NewEncoder(w).Encode(out) // dockerd has hung up, or gets it
}

// short is the ID that we know an object of Docker's by.
func short(id string) (model.ID, error) {
	if len(id) < model.IDLen || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fmt.Errorf("ID %q: want at least %d hexadecimal digits", id, model.IDLen)
	}
	return model.ID(id[:model.IDLen]), nil
}
