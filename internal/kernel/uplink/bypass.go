package uplink

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// A port that comes to a bridge, or leaves it, is deaf for a moment: the bridge drops
// what comes in by it from when it has it until it has set it up, and from before it
// lets go until it has (br_add_if and del_nbp in net/bridge/br_if.c). TCP makes 200 ms
// of a lost frame. For that moment a program that comes before the bridge
// (sch_handle_ingress in net/core/dev.c) hands all that comes in to the host, as come
// in by the bridge:
//
//	──▶ eth0 ──▶ program ──▶ br1 ──▶ host
//	               ╳
//	             port of br1
//
// It goes with the process, whatever becomes of that. It needs Linux 6.6 (tcx): a
// filter of the older kind is no way, the kernel stops a device while it makes room
// for one (qdisc_graft in net/sched/sch_api.c). Without it, the NIC is deaf.

// ingress is BPF_F_INGRESS of include/uapi/linux/bpf.h.
const ingress = 1

// bypass lets the program run until the function that it returns is called.
func bypass(nic, br device) (end func()) {
	_ = rlimit.RemoveMemlock() // for kernels that account BPF there; loading tells whether it had to work
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "sealane_uplink", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, int32(br.index)),
			asm.Mov.Imm(asm.R2, ingress),
			asm.FnRedirect.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		return func() {}
	}
	defer prog.Close() // the link has it
	l, err := link.AttachTCX(link.TCXOptions{Interface: nic.index, Program: prog, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return func() {}
	}
	return func() { l.Close() }
}
