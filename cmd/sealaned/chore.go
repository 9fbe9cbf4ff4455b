package main

import (
	"cmp"
	"context"
	"os"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/kstate"
)

// Shell has sh run a command of the host's. Of the daemon's own environment, which may
// have secrets, it gets PATH.
func (processes) Shell(ctx context.Context, command string, env []string, stdin string) (engine.Ran, error) {
	env = append([]string{"PATH=" + cmp.Or(os.Getenv("PATH"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")}, env...)
	status, stdout, stderr, err := process.Shell(ctx, command, env, stdin)
	return engine.Ran{Code: status.Code, Stdout: stdout, Stderr: stderr}, err
}

// Run runs a command of the host's in a network namespace.
func (processes) Run(ctx context.Context, ns kstate.NS, args []string) (engine.Ran, error) {
	status, stdout, stderr, err := process.Output(ctx, process.Spec{NetNS: ns.Path, Inode: ns.Inode, Args: args})
	return engine.Ran{Code: status.Code, Stdout: stdout, Stderr: stderr}, err
}
