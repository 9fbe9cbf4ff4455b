package announce

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/lab/netspace"
)

// The tests run in a network namespace of their own, which is the host; each
// container is one more. All of them go with the process.
func TestMain(m *testing.M) { netspace.Main(m) }

// box is a container on the test's bridge:
//
//	bridge lan 10.0.0.1/24 fd00::1/64 ─── port v<name> ───veth─── eth0
type box struct {
	netspace.Space
	t    *testing.T
	name string
}

// lan makes the bridge of a test.
func lan(t *testing.T) {
	t.Helper()
	ip(t, "link add lan address 16:00:00:00:00:01 type bridge mcast_snooping 0")
	t.Cleanup(func() { ip(t, "link del lan") })
	ip(t, "link set lan addrgenmode none")
	ip(t, "link set lan up")
	ip(t, "addr add 10.0.0.1/24 dev lan")
	ip(t, "addr add fd00::1/64 dev lan nodad")
}

// newBox makes a container with 10.0.0.LAST and fd00::LAST, and waits until its
// port carries packets.
func newBox(t *testing.T, name, mac string, last int) box {
	t.Helper()
	b := attach(t, name, mac, last)
	for !strings.Contains(netspace.Here(t, "bridge link show dev %s", b.port()), "state forwarding") {
		time.Sleep(time.Millisecond)
	}
	return b
}

// attach makes a container as newBox does and does not wait.
func attach(t *testing.T, name, mac string, last int) box {
	t.Helper()
	b := box{netspace.New(t), t, name}
	ip(t, fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s", b.port(), mac, b.Path()))
	t.Cleanup(func() { exec.Command("ip", "link", "del", b.port()).Run() }) // unless the test did
	ip(t, "link set "+b.port()+" addrgenmode none")
	b.ip("link set eth0 addrgenmode none")
	b.ip("addr add 10.0.0.%d/24 dev eth0", last)
	b.ip("link set eth0 up")
	b.ip("addr add fd00::%d/64 dev eth0 nodad", last)
	ip(t, fmt.Sprintf("link set %s master lan up", b.port()))
	return b
}

func (b box) port() string { return "v" + b.name }

func (b box) ip(format string, args ...any) string {
	b.t.Helper()
	return b.Run(b.t, "ip "+format, args...)
}

func ip(t *testing.T, line string) string {
	t.Helper()
	return netspace.Here(t, "ip %s", line)
}

// in runs f inside.
func (b box) in(f func() error) error {
	_, err := netspace.In(b.Space, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// heard is a frame and when it came.
type heard struct {
	at    time.Time
	frame string // in hex
}

// ear listens on a device.
type ear struct {
	t  *testing.T
	fd int
}

// listen hears what comes in by eth0 of the container.
func (b box) listen() ear {
	b.t.Helper()
	var e ear
	if err := b.in(func() (err error) { e, err = listen(b.t, "eth0"); return }); err != nil {
		b.t.Fatal(err)
	}
	return e
}

func listen(t *testing.T, device string) (ear, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return ear{}, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ear{}, err
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<23); err != nil {
		return ear{}, err
	}
	all := uint16(unix.ETH_P_ALL)
	return ear{t, fd}, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: dev.Index})
}

// next returns the next announcement that comes within d, or none.
func (e ear) next(d time.Duration) (heard, bool) {
	e.t.Helper()
	buf := make([]byte, 2000)
	for end := time.Now().Add(d); ; {
		left := max(time.Until(end), 0)
		tv := unix.NsecToTimeval(int64(left) + 1000)
		if err := unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			e.t.Fatal(err)
		}
		n, from, err := unix.Recvfrom(e.fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return heard{}, false
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			e.t.Fatal(err)
		}
		if outgoing := from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING; !outgoing && announces(buf[:n]) {
			return heard{time.Now(), hex.EncodeToString(buf[:n])}, true
		}
	}
}

// announces tells what we send from what kernels do: a gratuitous ARP request,
// or an advertisement to all nodes.
func announces(b []byte) bool {
	switch {
	case len(b) >= 42 && b[12] == 8 && b[13] == 6:
		return string(b[28:32]) == string(b[38:42])
	case len(b) >= 86 && b[12] == 0x86 && b[13] == 0xdd:
		return b[54] == typeAdvertisement && b[0] == 0x33
	}
	return false
}

// all returns the announcements until none comes for d.
func (e ear) all(d time.Duration) []heard {
	e.t.Helper()
	var list []heard
	for {
		h, ok := e.next(d)
		if !ok {
			return list
		}
		list = append(list, h)
	}
}

// announcer starts one, and closes it with the test.
func announcer(t *testing.T) *Announcer {
	t.Helper()
	a, err := Start(slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, ok := a.out.(injector); !ok {
		t.Fatal("the kernel does not take the program")
	}
	return a
}
