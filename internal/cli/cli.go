// Package cli is the command line: a translator between what people type and
// the API. It holds no state and knows nothing of kernels; beside calling the
// API it does one thing itself, which is to start commands in sandboxes.
//
// Results go to standard output. An error is one line on standard error. The
// exit status is 0, 1 when it did not work, 2 when it was said wrongly; run and
// exec give the command's own status, or 125, 126 or 127 if there is none.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/model"
)

// Console is what a command line reads and writes.
type Console struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is what commands share.
type app struct {
	Console
	version string
	socket  string
}

// Run executes one command line, without the program's name, and returns the
// exit status. The version is that of this binary; empty means that it is in
// the build information.
func Run(ctx context.Context, console Console, version string, args []string) int {
	a := &app{Console: console, version: version}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	cmd, err := find(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	if err == nil {
		return 0
	}
	a.complain(err)
	return exitStatus(cmd, err)
}

// complain says what is wrong, a line for each error, and what was not done for it. A
// command that ended badly has spoken for itself.
func (a *app) complain(err error) {
	if _, ok := errors.AsType[*commandError](err); ok {
		return
	}
	for _, e := range model.Joined(err) {
		fmt.Fprintln(a.Err, "sealane:", model.Lines(e)[0])
		if u, ok := errors.AsType[*model.UnfinishedError](e); ok {
			for _, step := range u.Left {
				fmt.Fprintln(a.Err, "sealane: not done:", model.Printable(step))
			}
		}
	}
}

// Exit statuses.
const (
	statusFailed = 1 // it did not work
	statusUsage  = 2 // it was said wrongly
)

// exitStatus is the one table from errors to exit statuses.
func exitStatus(cmd *cobra.Command, err error) int {
	if e, ok := errors.AsType[*commandError](err); ok {
		return e.status
	}
	if e, ok := errors.AsType[*process.Error](err); ok {
		return e.Code
	}
	if cmd != nil && cmd.Annotations[runsCommand] != "" {
		return process.CodeFailed // 1 and 2 would look like the command's own
	}
	if _, ok := errors.AsType[*usageError](err); ok || model.KindOf(err) == model.Invalid {
		return statusUsage
	}
	return statusFailed
}

// runsCommand marks the commands whose exit status is another command's.
const runsCommand = "runs-command"

// commandError is the exit status of a command that ran; there is nothing to
// say about it.
type commandError struct{ status int }

func (e *commandError) Error() string { return "" }

// envSocket is the variable that says where the daemon listens.
const envSocket = "SEALANE_SOCKET"

// client returns a client for the daemon.
func (a *app) client() *api.Client { return api.Dial(a.socket) }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "sealane",
		Short:         "Container networking: any container, any network",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       a.versionLine(),
		// No command has another one of these.
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return checkFlags(c) },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	socket := os.Getenv(envSocket)
	if socket == "" {
		socket = api.DefaultSocket
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", socket, "`PATH` of the daemon's socket; SEALANE_SOCKET sets it too")
	root.AddCommand(
		a.runCommand(), a.execCommand(), a.psCommand(), a.rmCommand(), a.inspectCommand(),
		a.networkCommand(), a.serviceCommand(), a.stackCommand(), a.portCommand(),
		a.applyCommand(), a.planCommand(), a.diffCommand(), a.explainCommand(), a.traceCommand(), a.doctorCommand(), a.eventsCommand(),
		a.uplinkCommand(), a.clusterCommand(), a.nodeCommand(), a.daemonCommand(), a.cniCommand(), a.pipeworkCommand(), a.versionCommand(),
	)
	root.SetVersionTemplate("{{.Version}}\n")
	root.InitDefaultVersionFlag()
	root.Flags().Lookup("version").Hidden = true // a habit; the command is what is told of
	polish(root)
	return root
}
