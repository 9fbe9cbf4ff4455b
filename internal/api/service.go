package api

import (
	"net/netip"
	"time"
)

// Service is one name for several endpoints of an overlay network, its backends. It is
// the same on all hosts of the cluster.
type Service struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Network  string            `json:"network"`            // name
	Ports    []string          `json:"ports"`              // 80/tcp
	VIPs     []netip.Addr      `json:"vips"`               // what its name means; none in mode dnsrr
	Mode     string            `json:"mode"`               // vip, or dnsrr: its name means its backends
	LB       string            `json:"lb"`                 // random, round-robin or hash
	Publish  []Published       `json:"publish"`            // ports of the cluster's hosts at which it is asked for
	Nearby   bool              `json:"publishLocalFirst"`  // what is asked for there goes to backends of that host, if it has any
	Health   *Health           `json:"health,omitempty"`   // how backends are checked; none: they are not
	Draining []string          `json:"draining,omitempty"` // the IDs of backends that are to get nothing new
	Backends []Backend         `json:"backends"`           // by endpoint
	Labels   map[string]string `json:"labels"`
	Status   Status            `json:"status"`
	Created  time.Time         `json:"created,omitzero"`
}

// Health is how backends are asked whether they serve, each by its own host.
type Health struct {
	Check    string `json:"check"`    // tcp, or http:/PATH
	Interval string `json:"interval"` // 2s
	Timeout  string `json:"timeout"`
	Retries  int    `json:"retries"` // failures in a row that make a backend unhealthy
}

// Published is a port of hosts at which a service is asked for.
type Published struct {
	Port      int          `json:"port"`   // of the hosts
	Target    int          `json:"target"` // of the service
	Protocol  string       `json:"protocol"`
	Addresses []netip.Addr `json:"addresses"`       // of hosts; none: all that they have
	Mode      string       `json:"mode"`            // ingress: every host answers; host: those with backends, which get it
	Taken     string       `json:"taken,omitempty"` // why the host that is asked does not answer at it
}

// Backend is an endpoint that is of a service. Connections are those of the containers of
// the host that is asked, and those asked for at a published port there; only inspect
// tells.
type Backend struct {
	Endpoint    string       `json:"endpoint"` // ID
	Sandbox     string       `json:"sandbox"`  // name
	Host        string       `json:"host"`     // name
	Addresses   []netip.Addr `json:"addresses"`
	Port        int          `json:"port,omitempty"` // where it serves; 0: at the port that was asked for
	Weight      int          `json:"weight"`
	Connections int          `json:"connections"`
	State       string       `json:"state"` // ready, draining, stopped: it has no container now; away: its host was not heard of lately; starting: it is checked and has not served yet; unhealthy: its checks fail
	// What its host found by checking it, starting, healthy or unhealthy, since when; and
	// why it does not serve, if it is of the host that is asked.
	Health      string    `json:"health,omitempty"`
	HealthSince time.Time `json:"healthSince,omitzero"`
	HealthError string    `json:"healthError,omitempty"`
}

// Membership is an endpoint's part in a service.
type Membership struct {
	Service string `json:"service"` // name
	Port    int    `json:"port,omitempty"`
	Weight  int    `json:"weight,omitempty"`
	State   string `json:"state"` // a backend's, or waiting: the network has no such service yet
}

// ServiceSpec is a service to be made: POST /v1/services.
type ServiceSpec struct {
	Name    string            `json:"name"`
	Network string            `json:"network"`           // name or ID, of an overlay network
	Ports   []string          `json:"ports,omitempty"`   // PORT[-LAST][/tcp|udp|sctp]; none: where the published ones lead
	Mode    string            `json:"mode,omitempty"`    // vip or dnsrr; vip
	LB      string            `json:"lb,omitempty"`      // random, round-robin or hash; random
	Publish []string          `json:"publish,omitempty"` // [ADDR:]PORT[:TARGET][/tcp|udp|sctp][,mode=host], both FIRST-LAST or neither
	Nearby  bool              `json:"publishLocalFirst,omitempty"`
	Health  *HealthWish       `json:"health,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// HealthWish is how backends are to be checked. What is left out of a change stays as it is.
type HealthWish struct {
	Check    string `json:"check,omitempty"`    // tcp, http:/PATH or none
	Interval string `json:"interval,omitempty"` // 100ms to 1h; 2s
	Timeout  string `json:"timeout,omitempty"`  // up to the interval; 1s
	Retries  int    `json:"retries,omitempty"`  // 1 to 100; 3
}

// ServiceUpdate is what changes about a service: PATCH /v1/services/{ref}. What is left
// out stays as it is.
type ServiceUpdate struct {
	Ports []string `json:"ports,omitempty"` // instead of those there are
	LB    string   `json:"lb,omitempty"`
	// Published ports, as of a ServiceSpec, that are added; and PORT[-LAST][/tcp|udp|sctp] that go,
	// before them.
	PublishAdd []string    `json:"publishAdd,omitempty"`
	PublishRm  []string    `json:"publishRm,omitempty"`
	Nearby     *bool       `json:"publishLocalFirst,omitempty"`
	Health     *HealthWish `json:"health,omitempty"`
	Drain      []string    `json:"drain,omitempty"`   // backends: an endpoint's ID, a sandbox's name, or HOST/NAME
	Undrain    []string    `json:"undrain,omitempty"` // backends
	// Labels are set, RemoveLabels go.
	Labels       map[string]string `json:"labels,omitempty"`
	RemoveLabels []string          `json:"removeLabels,omitempty"`
}
