package api

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// whoMay says in one sentence who may connect to a socket: connecting is
// writing, so its mode decides (unix(7)).
func whoMay(socket string) string {
	const rootOnly = "only root may use it"
	info, err := os.Stat(socket)
	if err != nil {
		return rootOnly
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&0o020 == 0 || st.Gid == 0 {
		return rootOnly
	}
	group := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return "root and members of group " + group + " may use it"
}
