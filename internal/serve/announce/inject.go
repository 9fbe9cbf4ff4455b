package announce

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
)

// injector puts frames where a device receives. A packet socket cannot: what it
// sends on the host's end of a veth comes out in the sandbox. A BPF program
// can, run once for each frame by bpf(BPF_PROG_TEST_RUN) and attached nowhere:
// the helper bpf_clone_redirect hands the frame to any device's receiving side
// (net/core/filter.c).
type injector struct{ prog *ebpf.Program }

// Of struct __sk_buff and bpf_clone_redirect in include/uapi/linux/bpf.h.
const (
	skbSize   = 192
	skbCB     = 48 // the offset of cb, which the caller may fill
	inIngress = 1  // BPF_F_INGRESS
)

func newInjector() (sender, error) {
	_ = rlimit.RemoveMemlock() // for kernels that account BPF there; loading tells whether it had to work
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "sealane_inject", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, skbCB, asm.Word),
			asm.Mov.Imm(asm.R3, inIngress),
			asm.FnCloneRedirect.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load the program that injects: %w", err)
	}
	return injector{prog}, nil
}

func (in injector) send(port int, frame []byte) error {
	skb := make([]byte, skbSize)
	binary.NativeEndian.PutUint32(skb[skbCB:], uint32(port))
	code, err := in.prog.Run(&ebpf.RunOptions{Data: frame, Context: skb})
	switch {
	case err != nil:
		return fmt.Errorf("inject: %w", err)
	case code != 0: // NET_RX_DROP, or an error number
		return fmt.Errorf("inject: device %d does not receive (%d)", port, int32(code))
	}
	return nil
}

func (in injector) close() error { return in.prog.Close() }
