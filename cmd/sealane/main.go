// Command sealane is the client: the command line of Sealane, and under the names
// sealane-cni and pipework its CNI plugin and what takes that script's place.
package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/cli"
	"github.com/sealane/sealane/internal/cni"
	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/pipework"
)

// version is set at build time.
var version string

func main() {
	process.Stage() // in a supervisor it does not return
	if filepath.Base(os.Args[0]) == "sealane-cni" {
		os.Exit(cni.Run(context.Background(), cni.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}))
	}
	if filepath.Base(os.Args[0]) == "pipework" {
		console := pipework.Console{Out: os.Stdout, Err: os.Stderr, Socket: cmp.Or(os.Getenv("SEALANE_SOCKET"), api.DefaultSocket)}
		os.Exit(pipework.Run(context.Background(), console, os.Args[1:]))
	}
	console := cli.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(cli.Run(context.Background(), console, version, os.Args[1:]))
}
