package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// hub is a host that is a switch for others, and has their etcd.
type hub struct {
	*host
	cmd   *exec.Cmd
	log   bytes.Buffer // what etcd said
	http  http.Client  // of its JSON gateway
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
	x.http.Transport = &http.Transport{DialContext: func(context.Context, string, string) (c net.Conn, err error) {
		err = h.do(func() error {
			c, err = net.Dial("tcp", hubAddress+":2379")
			return err
		})
		return c, err
	}}
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
	x.http.CloseIdleConnections()
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
	type op map[string]map[string]string
	var ops []op
	for k, v := range values {
		ops = append(ops, op{"requestPut": {"key": base64.StdEncoding.EncodeToString([]byte(k)), "value": base64.StdEncoding.EncodeToString([]byte(v))}})
	}
	for len(ops) > 0 {
		n := min(len(ops), maxOps)
		body, err := json.Marshal(map[string]any{"success": ops[:n]})
		if err != nil {
			return err
		}
		resp, err := x.http.Post(hubURL+"/v3/kv/txn", "application/json", strings.NewReader(string(body)))
		if err != nil {
			return err
		}
		said, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			return errors.Join(err, fmt.Errorf("put: %s: %s", resp.Status, said))
		}
		ops = ops[n:]
	}
	return nil
}
