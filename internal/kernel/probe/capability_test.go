package probe

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// dropCapabilities takes all capabilities from the calling thread, which must
// end with its goroutine.
func dropCapabilities() error {
	runtime.LockOSThread()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&head, &none[0])
}
