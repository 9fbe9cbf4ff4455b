package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// hub is a host that is a switch for others, and has their etcd.
type hub struct {
	*host
	cmd   *exec.Cmd
	log   bytes.Buffer // what etcd said
	etcd  *clientv3.Client
	ports int
}

// What daemons find at the hub.
const (
	hubAddress = "172.16.0.1"
	hubURL     = "http://" + hubAddress + ":2379"
)

// newHub starts etcd, with its data on tmpfs.
func newHub() (*hub, error) {
	h, err := newHost()
	if err != nil {
		return nil, err
	}
	x := &hub{host: h}
	dial := grpc.WithContextDialer(func(context.Context, string) (c net.Conn, err error) {
		err = h.do(func() error {
			c, err = net.Dial("tcp", hubAddress+":2379")
			return err
		})
		return c, err
	})
	if x.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{hubURL}, DialOptions: []grpc.DialOption{dial}, Logger: zap.NewNop()}); err != nil {
		h.close()
		return nil, fmt.Errorf("etcd: %w", err)
	}
	if err := x.boot(); err != nil {
		x.close()
		return nil, fmt.Errorf("etcd: %w\n%s", err, x.log.Bytes())
	}
	return x, nil
}

func (x *hub) boot() error {
	if err := x.filterBridged(false); err != nil {
		return err
	}
	err := x.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "hub"
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return err
		}
		return configure("hub", hubAddress+"/12")
	})
	if err != nil {
		return err
	}
	x.cmd = exec.Command("etcd", "--data-dir", "/var/lib/etcd", "--unsafe-no-fsync", "--log-level", "error", "--listen-peer-urls", "http://127.0.0.1:2380",
		"--listen-client-urls", hubURL, "--advertise-client-urls", hubURL)
	x.cmd.Stdout, x.cmd.Stderr, x.cmd.SysProcAttr = &x.log, &x.log, x.attr()
	if err := x.do(x.cmd.Start); err != nil {
		return err
	}
	for deadline := time.Now().Add(120 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := x.put(map[string]string{"/ready": "yes"})
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// close ends etcd and the host.
func (x *hub) close() {
	_ = x.etcd.Close() // it was all answered
	if x.cmd != nil && x.cmd.Process != nil {
		x.cmd.Process.Kill()
		_ = x.cmd.Wait() // it was killed
	}
	x.host.close()
}

// plug connects another host by its eth0.
func (x *hub) plug(h *host, address string) error {
	x.ports++
	err := x.do(func() error {
		bridge, err := netlink.LinkByName("hub")
		if err != nil {
			return err
		}
		attrs := netlink.LinkAttrs{Name: fmt.Sprint("port", x.ports), MTU: bareMTU, TxQLen: -1, MasterIndex: bridge.Attrs().Index}
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerMTU: bareMTU, PeerNamespace: netlink.NsFd(netns.NsHandle(h.ns[1].file.Fd()))}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return netlink.LinkSetUp(veth)
	})
	if err != nil {
		return fmt.Errorf("plug: %w", err)
	}
	return h.do(func() error { return configure("eth0", address+"/12") })
}

// maxOps is how much etcd takes in one transaction, see its flag --max-txn-ops.
const maxOps = 128

// put stores values by their keys.
func (x *hub) put(values map[string]string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var ops []clientv3.Op
	for k, v := range values {
		ops = append(ops, clientv3.OpPut(k, v))
	}
	for some := range slices.Chunk(ops, maxOps) {
		if _, err := x.etcd.Txn(ctx).Then(some...).Commit(); err != nil {
			return fmt.Errorf("put: %w", err)
		}
	}
	return nil
}
