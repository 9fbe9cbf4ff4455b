package server

import (
	"net/http"
	"reflect"
	"strconv"

	"github.com/sealane/sealane/internal/api"
)

// route is one operation of the API.
type route struct {
	method, path, summary string
	query                 []parameter
	texts                 []parameter  // of the query too, and have to be given
	offers                []parameter  // texts of the query that may be left out
	request, response     reflect.Type // nil: no body
	yaml                  bool         // the request may be YAML
	serve                 func(*service, *http.Request) (any, error)
}

// parameter is a query parameter.
type parameter struct {
	name, description string
	list              bool // of strings; else a boolean
}

const (
	prefix      = "/" + api.Version
	openapiPath = prefix + "/openapi.json"
)

// none stands for a request or an answer without a body.
type none struct{}

// table is all routes, in the order of the document.
func table() []route {
	const (
		get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
		networks, network          = prefix + "/networks", prefix + "/networks/{ref}"
		sandboxes, sandbox         = prefix + "/sandboxes", prefix + "/sandboxes/{ref}"
		services, offer            = prefix + "/services", prefix + "/services/{ref}"
		stacks                     = prefix + "/stacks"
	)
	return []route{
		on(get, prefix+"/version", "Say the daemon's version", (*service).version),

		on(get, networks, "List all networks by name", (*service).networks).with(filtered(networkKeys())),
		on(post, networks, "Make a network", (*service).createNetwork),
		on(post, networks+"/prune", "Remove all networks that nobody uses", (*service).pruneNetworks).with(filtered(pruneKeys())),
		on(get, network, "Show a network", (*service).network),
		on(patch, network, "Change options and labels of a network, under whatever is on it", (*service).updateNetwork),
		on(del, network, "Remove a network that nobody uses", (*service).removeNetwork),
		on(post, network+"/connect", "Put a running sandbox on a network", (*service).connect),
		on(post, network+"/disconnect", "Take a sandbox off a network", (*service).disconnect),
		on(post, network+"/attach", "Put the container of a runtime on a network", (*service).attach),
		on(post, network+"/detach", "Take the container of a runtime off a network", (*service).detach),

		on(get, services, "List the services of overlay networks by name", (*service).services),
		on(post, services, "Make a service of an overlay network, on all hosts of the cluster", (*service).createService),
		on(get, offer, "Show a service with its backends", (*service).serviceOf),
		on(patch, offer, "Change ports and load balancing of a service, and which backends drain", (*service).updateService),
		on(del, offer, "Remove a service; its backends stay", (*service).removeService),

		on(get, sandboxes, "List sandboxes, oldest first", (*service).sandboxes).
			with(parameter{"all", "also those that have ended", false}).with(filtered(sandboxKeys())),
		on(post, sandboxes, "Make a sandbox with its endpoints and ports, all or nothing", (*service).createSandbox),
		on(get, sandbox, "Show a sandbox", (*service).sandbox),
		on(get, sandbox+"/diff", "Say what is not as intended now of what a sandbox needs", (*service).sandboxDiff),
		on(del, sandbox, "Remove a sandbox", (*service).removeSandbox).
			with(parameter{"force", "end its command if that runs", false}),
		on(put, sandbox+"/process", "Say which process runs a sandbox's command", (*service).setProcess),
		on(put, sandbox+"/exit", "Say how a sandbox's command ended", (*service).setExit),
		on(post, sandbox+"/ports", "Publish ports", (*service).publish),
		on(del, sandbox+"/ports", "Take published ports back; they are in the body or in the query", (*service).unpublish).
			with(parameter{"port", "a port as it was published, instead of a body", true}),

		on(get, prefix+"/pipework", "List what pipework commands did, and is still so", (*service).plugged),
		on(post, prefix+"/pipework", "Connect a container to a device of the host", (*service).plug),
		on(del, prefix+"/pipework", "Take that back", (*service).unplug),
		on(post, prefix+"/pipework/run", "Run a command of ip or tc in a container, and in each namespace that it gets later", (*service).run),

		on(get, prefix+"/uplinks", "List NICs of the host that are attached to bridges", (*service).uplinks),
		on(post, prefix+"/uplinks", "Move a NIC with its addresses and routes under a bridge; if gateways fall silent, everything goes back", (*service).attachUplink),
		on(post, prefix+"/uplinks/{ref}/detach", "Move a NIC with its addresses and routes out of its bridge", (*service).detachUplink),

		on(get, prefix+"/cluster", "Say how the cluster is, as seen from this host", (*service).cluster),
		on(post, prefix+"/cluster/init", "Begin a cluster with this host", (*service).initCluster),
		on(post, prefix+"/cluster/join", "Make this host one of a cluster", (*service).joinCluster),
		on(post, prefix+"/cluster/leave", "Take this host out of its cluster", (*service).leaveCluster),
		on(post, prefix+"/cluster/token", "Return the token that lets hosts join, or make another", (*service).inviteToCluster),
		on(get, prefix+"/cluster/networks/{ref}", "Say what hinders this host to be on a network over hosts, by its name", (*service).clusterNetwork),
		on(get, prefix+"/nodes", "List the hosts of the cluster by name", (*service).nodes),
		on(get, prefix+"/nodes/{ref}", "Tell of a host of the cluster: its subnets too", (*service).node),
		on(del, prefix+"/nodes/{ref}", "Remove another host from the cluster", (*service).removeNode),

		on(post, prefix+"/plan", "Say what applying a declaration would do", (*service).plan).orYAML().ofFile(),
		on(post, prefix+"/apply", "Make what a declaration says and is not there yet, all or nothing; of a stack step by step", (*service).apply).orYAML().ofFile(),
		on(get, stacks, "List stacks by name", (*service).stacks),
		on(del, stacks+"/{ref}", "Remove the networks and services of a stack", (*service).removeStack),
		on(get, prefix+"/diff", "Say what is not as intended now", (*service).diff),
		on(get, prefix+"/explain", "Follow a packet step by step through what the kernel has, and the answer to it", (*service).explain).
			asking("from", "a sandbox, host, or world:ADDRESS for somebody beyond the host").asking("to", "a sandbox, an address or a service; with :PORT or :PORT/PROTOCOL after it, what goes there; from world also :PORT alone, of the host").
			offering("backend", "the backend of a service whose way is told, by its container's name, HOST/NAME or the ID of its endpoint"),
		on(post, prefix+"/trace", "Send a packet, and say what the host's packet filters do with it and with its answer", (*service).trace),
		on(get, prefix+"/doctor", "Say whether this host and the daemon are well, and what would be right", (*service).doctor),
		on(get, prefix+"/events", "Say what was made, changed and removed, or wait for it: from now on, or from what is remembered", (*service).events).
			offering("from", "the number of the first, as the last answer said").offering("since", "a time, or how long ago, of the first").
			offering("until", "the same, of the end").with(filtered(eventKeys())),
		on(get, openapiPath, "This document", (*service).describe),
	}
}

// on makes a route of a handler; its types say what is in the bodies.
func on[Req, Res any](method, path, summary string, f func(*service, *http.Request, Req) (Res, error)) route {
	r := route{method: method, path: path, summary: summary, request: bodyType[Req](), response: bodyType[Res]()}
	r.serve = func(s *service, hr *http.Request) (any, error) {
		var req Req
		bodiless := hr.Method == http.MethodDelete && hr.ContentLength == 0 // says it in the query
		if r.request != nil && !bodiless {
			if err := decode(hr, &req); err != nil {
				return nil, err
			}
		}
		return f(s, hr, req)
	}
	return r
}

func bodyType[T any]() reflect.Type {
	if t := reflect.TypeFor[T](); t != reflect.TypeFor[none]() {
		return t
	}
	return nil
}

func (r route) with(p parameter) route {
	r.query = append(r.query, p)
	return r
}

// asking has the query give a text.
func (r route) asking(name, description string) route {
	r.texts = append(r.texts, parameter{name: name, description: description})
	return r
}

// offering has the query take a text.
func (r route) offering(name, description string) route {
	r.offers = append(r.offers, parameter{name: name, description: description})
	return r
}

func (r route) orYAML() route {
	r.yaml = true
	return r
}

// flag reads a boolean query parameter.
func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, invalid("query", "", "%s=%q: want true or false", name, text)
	}
	return b, nil
}
