package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/model"
)

func (a *app) execCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "exec REF [--] CMD [ARG…]",
		Short: "Run another command in a sandbox",
		Long: `REF is the name or ID of a sandbox, whose network, files and host name the
command gets; or docker:NAME and the like, netns:PATH or pid:N for the network
namespace of something else. The exit status is the command's; 125 means that exec itself did not
work, 126 that the command cannot be executed, 127 that it is not there.`,
		Example:     "  sealane exec web -- ss -tln\n  sealane exec pid:4711 -- ip route",
		Annotations: map[string]string{runsCommand: "yes"},
		Args:        args(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			ref, command := args[0], args[1:]
			if len(command) > 0 && command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return usage("exec: want REF -- CMD [ARG…]")
			}
			if err := needRoot("exec"); err != nil {
				return err
			}
			where, err := a.enter(c.Context(), ref)
			if err != nil {
				return err
			}
			where.Args = command
			status, err := process.Run(c.Context(), where, process.Stdio{}, nil)
			if err != nil {
				return err
			}
			return ended(status)
		},
	}
	c.Flags().SetInterspersed(false)
	return c
}

// enter says how to get into what a reference names. The namespaces of others
// need no daemon.
func (a *app) enter(ctx context.Context, ref string) (process.Spec, error) {
	if path, ok := strings.CutPrefix(ref, "netns:"); ok {
		if !filepath.IsAbs(path) {
			return process.Spec{}, usage("exec: %s: want an absolute path", ref)
		}
		return process.Spec{NetNS: path}, nil
	}
	if pid, ok := strings.CutPrefix(ref, "pid:"); ok {
		if pid == "" || strings.Trim(pid, "0123456789") != "" {
			return process.Spec{}, usage("exec: %s: want a process number", ref)
		}
		return process.Spec{NetNS: "/proc/" + pid + "/ns/net"}, nil
	}
	r := runner{app: a, client: a.client()}
	sb, err := r.client.Sandbox(ctx, ref)
	if err != nil {
		return process.Spec{}, err
	}
	if sb.Exit != nil {
		return process.Spec{}, &model.Error{Kind: model.Gone, Ref: "sandbox " + sb.Name, Op: "exec", Err: errors.New("has ended: " + sb.Status.Message)}
	}
	if sb.Guest != nil && sb.NetNS == "" {
		return process.Spec{}, &model.Error{Kind: model.Gone, Ref: "sandbox " + sb.Name, Op: "exec", Err: errors.New("is away: " + sb.Status.Message)}
	}
	return r.inside(ctx, sb)
}
