// Command sealane is the client: the command line of Sealane, and under the name
// sealane-cni its CNI plugin.
package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/sealane/sealane/internal/cli"
	"github.com/sealane/sealane/internal/cni"
	"github.com/sealane/sealane/internal/kernel/process"
)

// version is set at build time.
var version string

func main() {
	process.Stage() // in a supervisor it does not return
	if filepath.Base(os.Args[0]) == "sealane-cni" {
		os.Exit(cni.Run(context.Background(), cni.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}))
	}
	console := cli.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(cli.Run(context.Background(), console, version, os.Args[1:]))
}
