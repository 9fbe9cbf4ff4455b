package server_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kstate"
)

// BenchmarkNetworks lists a hundred networks with five sandboxes each, and
// asks how full they are, which is a part of that.
func BenchmarkNetworks(b *testing.B) {
	h := newHost(b)
	for i := range 100 {
		name := strconv.Itoa(i)
		h.must(b, "POST", "/v1/networks", `{"name":"n`+name+`","ipv6":true}`)
		for k := range 5 {
			h.must(b, "POST", "/v1/sandboxes", `{"name":"s`+name+`-`+strconv.Itoa(k)+`","networks":[{"network":"n`+name+`"}]}`)
		}
	}
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			h.must(b, "GET", "/v1/networks", "")
		}
	})
	all := h.engine.Networks()
	b.Run("usage", func(b *testing.B) {
		for b.Loop() {
			for _, n := range all {
				h.engine.Usage(n)
			}
		}
	})
}

// BenchmarkConnect puts a namespace on a network and takes it off again: by
// the engine alone, and through the API over a socket. The difference is what
// the API costs, twice.
func BenchmarkConnect(b *testing.B) {
	h := newHost(b)
	for i := range 100 {
		h.must(b, "POST", "/v1/sandboxes", `{"name":"s`+strconv.Itoa(i)+`","networks":[{"network":"bridge"}]}`)
	}
	h.kernel.Foreign(kstate.NetNS{NS: kstate.NS{Path: "/run/netns/x", Inode: 77}})
	h.must(b, "POST", "/v1/networks", `{"name":"app"}`)
	h.must(b, "POST", "/v1/networks/bridge/connect", `{"sandbox":"netns:/run/netns/x"}`)
	ctx := context.Background()
	b.Run("engine", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := h.engine.Connect(ctx, "netns:/run/netns/x", engine.EndpointSpec{Network: "app"}, nil); err != nil {
				b.Fatal(err)
			}
			if err := h.engine.Disconnect(ctx, "netns:/run/netns/x", "app"); err != nil {
				b.Fatal(err)
			}
		}
	})
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: h.api}
	go srv.Serve(l)
	defer srv.Close()
	c := api.Dial(l.Addr().String())
	b.Run("api", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Connect(ctx, "app", api.Connect{Sandbox: "netns:/run/netns/x"}); err != nil {
				b.Fatal(err)
			}
			if err := c.Disconnect(ctx, "app", api.Disconnect{Sandbox: "netns:/run/netns/x"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("version", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Version(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}
