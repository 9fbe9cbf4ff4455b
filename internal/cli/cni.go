package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/cni"
)

func (a *app) cniCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cni",
		Short: "Answer a container runtime that speaks CNI; also called sealane-cni",
		Long: `A runtime executes it with CNI_COMMAND and its like in the environment and a network's configuration on standard
input. Answers are JSON on standard output, errors too.`,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			getenv := func(name string) string {
				if name == envSocket {
					return a.socket
				}
				return os.Getenv(name)
			}
			status := cni.Run(c.Context(), cni.Console{In: a.In, Out: a.Out, Err: a.Err, Getenv: getenv})
			if status != 0 {
				return &commandError{status}
			}
			return nil
		},
	}
}
