package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/pipework"
)

func (a *app) pipeworkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pipework HOSTDEVICE GUEST ADDRESS/BITS[@GATEWAY] [MAC][@VLAN]",
		Short: "Connect a container as the script pipework does; also called pipework",
		Long: `All forms of the script are taken, and --undo and --list. What a command did
comes back when the container is started again.`,
		Example:            "  sealane pipework br1 web 192.168.1.1/24@192.168.1.254\n  sealane pipework --undo br1 web",
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			for len(args) > 0 {
				name, value, joined := strings.Cut(args[0], "=")
				if name != "--socket" || !joined && len(args) < 2 {
					break
				}
				if a.socket, args = value, args[1:]; !joined {
					a.socket, args = args[0], args[1:]
				}
			}
			if len(args) == 1 && (args[0] == "--help" || args[0] == "-h") {
				return c.Help()
			}
			status := pipework.Run(c.Context(), pipework.Console{In: a.In, Out: a.Out, Err: a.Err, Socket: a.socket}, args)
			if status != 0 {
				return &commandError{status}
			}
			return nil
		},
	}
}
