package lab

import (
	"fmt"
	"os/exec"

	"github.com/sealane/sealane/internal/lab/openvswitch"
)

// OVS is the host's Open vSwitch, where Debian has its files. Its database is
// among what a reboot keeps.
func (h *Host) OVS() openvswitch.OVS {
	return openvswitch.OVS{Dir: "/run/openvswitch", DB: "/var/lib/openvswitch/conf.db", Bash: func(script string) (string, error) {
		r, err := h.RunCmd(exec.Command("bash", "-c", script))
		if err == nil && r.Code != 0 {
			err = fmt.Errorf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		return r.Stdout, err
	}}
}
