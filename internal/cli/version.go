package cli

import (
	"cmp"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		Args:  args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(a.Out, a.versionLine())
			return nil
		},
	}
}

// versionLine is what --version says, too.
func (a *app) versionLine() string {
	return fmt.Sprintf("sealane %s, api %s", buildVersion(a.version), api.Version)
}

// buildVersion is the version given at build time, else the module's, and the
// commit if the build knows it.
func buildVersion(given string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(given, "unknown")
	}
	version := cmp.Or(given, info.Main.Version, "unknown")
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			version += " (" + s.Value[:min(12, len(s.Value))] + ")"
		}
	}
	return version
}
