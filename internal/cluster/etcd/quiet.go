package etcd

import (
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// turns is the name of the balancer that gRPC knows.
	turns = "sealane_turns"

	// quietFor is how long a member that was silent has no turn, if others have one. Then
	// one call finds out whether it answers.
	quietFor = 30 * time.Second
)

func init() { balancer.Register(builder{}) }

// spare has calls take turns between members by builder's balancer, whatever the resolver
// of etcd's client says.
func spare() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithDisableServiceConfig(), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"` + turns + `": {}}]}`)}
}

// builder makes a round robin that leaves out who was silent.
type builder struct{}

func (builder) Name() string { return turns }

func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return balancer.Get(roundrobin.Name).Build(&listener{ClientConn: cc, quiet: map[balancer.SubConn]time.Time{}}, opts)
}

// listener is a connection to all members, which hears who answers.
type listener struct {
	balancer.ClientConn

	mu    sync.Mutex                     // protects the following
	quiet map[balancer.SubConn]time.Time // until when it has no turn
}

// UpdateState implements balancer.ClientConn.
func (l *listener) UpdateState(s balancer.State) {
	s.Picker = picker{s.Picker, len(endpointsharding.ChildStatesFromPicker(s.Picker)), l}
	l.ClientConn.UpdateState(s)
}

type picker struct {
	balancer.Picker
	members int
	*listener
}

// Pick implements balancer.Picker. Where all were silent, it is whose turn it is.
func (p picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	r, err := p.Picker.Pick(info)
	for n := 1; err == nil && n < p.members && !p.has(r.SubConn); n++ {
		r, err = p.Picker.Pick(info)
	}
	if err != nil {
		return r, err
	}
	done := r.Done
	r.Done = func(d balancer.DoneInfo) {
		p.heard(r.SubConn, d)
		if done != nil {
			done(d)
		}
	}
	return r, nil
}

// has says whether a member has a turn. One that was silent has one, and no second until
// it answered.
func (l *listener) has(c balancer.SubConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, is := l.quiet[c]
	if !is {
		return true
	}
	if time.Now().Before(until) {
		return false
	}
	l.quiet[c] = time.Now().Add(quietFor)
	return true
}

// heard is told how a call of a member ended.
func (l *listener) heard(c balancer.SubConn, d balancer.DoneInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case status.Code(d.Err) == codes.DeadlineExceeded: // it may say so itself, as time is up
		l.quiet[c] = time.Now().Add(quietFor)
	case d.BytesReceived:
		delete(l.quiet, c)
	}
}
