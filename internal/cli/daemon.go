package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// daemonName is the daemon's binary.
const daemonName = "sealaned"

func (a *app) daemonCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "daemon [FLAGS]",
		Short:              "Run the daemon, in the foreground",
		DisableFlagParsing: true, // they are the daemon's
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := findDaemon()
			if err != nil {
				return err
			}
			err = syscall.Exec(path, append([]string{daemonName}, args...), os.Environ())
			return fmt.Errorf("daemon: execute %s: %w", path, err)
		},
	}
}

// findDaemon looks beside this binary, where its links lead, then in PATH.
func findDaemon() (string, error) {
	var dirs []string
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err == nil {
		dirs = append(dirs, filepath.Dir(self))
	}
	for _, dir := range append(dirs, filepath.SplitList(os.Getenv("PATH"))...) {
		path := filepath.Join(dir, daemonName)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("daemon: %s is neither beside %s nor in PATH", daemonName, self)
}
