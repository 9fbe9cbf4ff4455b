package api

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Sandbox is a network namespace with its endpoints, and the command in it.
type Sandbox struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Mode      string     `json:"mode"`            // own, host, shared, other
	PID       int        `json:"pid"`             // of its command while that runs, else 0
	NetNS     string     `json:"netns"`           // path; empty for the host's
	Inode     uint64     `json:"inode,omitempty"` // mode other: which namespace the path means
	Donor     string     `json:"donor,omitempty"` // mode shared: ID of the sandbox whose namespace it is
	Hostname  string     `json:"hostname"`
	Domain    string     `json:"domainname,omitempty"`
	Command   []string   `json:"command"`
	Endpoints []Endpoint `json:"endpoints"`
	Ports     []Port     `json:"ports"`
	Status    Status     `json:"status"`
	Exit      *Exit      `json:"exit,omitempty"` // once it has ended
	Dir       string     `json:"dir"`            // holds hosts, hostname, resolv.conf and output
	Created   time.Time  `json:"created"`
}

// Endpoint is one interface of a sandbox, seen from the sandbox.
type Endpoint struct {
	ID        string         `json:"id"`
	Network   string         `json:"network"` // name
	IfName    string         `json:"ifname"`
	MAC       string         `json:"mac"`
	Addresses []netip.Prefix `json:"addresses"`
	Gateway   netip.Addr     `json:"gateway"` // of the first address's subnet; empty on an internal network
	Aliases   []string       `json:"aliases"`
}

// Port is a published port: host port HostPort+i leads to Port+i in the
// sandbox, for i below Count.
type Port struct {
	Protocol string     `json:"protocol"` // tcp or udp
	HostIP   netip.Addr `json:"hostIP"`   // empty: every address of the host
	HostPort uint16     `json:"hostPort"`
	Port     uint16     `json:"port"`
	Count    uint16     `json:"count"`
}

// String is the port as docker ps writes it: 0.0.0.0:8080->80/tcp, or without
// an address when the port answers on all of them.
func (p Port) String() string {
	host := span(p.HostPort, p.Count)
	if p.HostIP.IsValid() {
		addr := p.HostIP.String()
		if p.HostIP.Is6() {
			addr = "[" + addr + "]"
		}
		host = addr + ":" + host
	}
	return fmt.Sprintf("%s->%s/%s", host, span(p.Port, p.Count), p.Protocol)
}

func span(first, count uint16) string {
	if count > 1 {
		return fmt.Sprintf("%d-%d", first, int(first)+int(count)-1)
	}
	return strconv.Itoa(int(first))
}

// Exit is how a command ended.
type Exit struct {
	Code   int       `json:"code"`             // 128+signal when killed by one
	Signal string    `json:"signal,omitempty"` // "killed"
	Lost   bool      `json:"lost,omitempty"`   // nobody saw it end
	At     time.Time `json:"at"`
}

// SandboxSpec is a sandbox to be made: POST /v1/sandboxes.
type SandboxSpec struct {
	Name       string            `json:"name,omitempty"`  // else its ID
	Mode       string            `json:"mode,omitempty"`  // own, host, shared, other; own
	Donor      string            `json:"donor,omitempty"` // REF of the sandbox whose namespace is shared
	NetNS      string            `json:"netns,omitempty"` // path of another's namespace
	Networks   []EndpointSpec    `json:"networks,omitempty"`
	Ports      []string          `json:"ports,omitempty"` // as -p takes them
	PublishAll bool              `json:"publishAll,omitempty"`
	Expose     []string          `json:"expose,omitempty"` // PORT[-END][/tcp|udp]
	Hostname   string            `json:"hostname,omitempty"`
	Domain     string            `json:"domainname,omitempty"`
	DNS        DNS               `json:"dns,omitzero"`
	Hosts      []HostEntry       `json:"hosts,omitempty"`
	Sysctls    map[string]string `json:"sysctls,omitempty"`
	Command    []string          `json:"command,omitempty"`
	AutoRemove bool              `json:"autoRemove,omitempty"`
	Process    *Process          `json:"process,omitempty"` // who will start the command
}

// EndpointSpec is an endpoint to be made on a network.
type EndpointSpec struct {
	Network string `json:"network"` // name or ID
	EndpointOptions
}

// EndpointOptions are what may be asked of an endpoint. What is left out is
// chosen.
type EndpointOptions struct {
	IP         string   `json:"ip,omitempty"`
	IP6        string   `json:"ip6,omitempty"`
	MAC        string   `json:"mac,omitempty"`
	IfName     string   `json:"ifname,omitempty"`
	Aliases    []string `json:"aliases,omitempty"`
	GwPriority int      `json:"gwPriority,omitempty"` // the highest gives the default route
}

// DNS is what goes into resolv.conf instead of the host's.
type DNS struct {
	Servers []string `json:"servers,omitempty"`
	Search  []string `json:"search,omitempty"`
	Options []string `json:"options,omitempty"`
}

// HostEntry is one extra line of /etc/hosts.
type HostEntry struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

// Process names a process for good: PUT /v1/sandboxes/{ref}/process. Start is
// field 22 of /proc/PID/stat, so that a reused PID is noticed.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// Ended reports how a command ended: PUT /v1/sandboxes/{ref}/exit.
type Ended struct {
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"`
}

// Ports names ports as -p takes them: to publish, or to take back.
type Ports struct {
	Ports []string `json:"ports"`
}
