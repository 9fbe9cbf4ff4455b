// Command sealane is the client: the command line of Sealane.
package main

import (
	"context"
	"os"

	"github.com/sealane/sealane/internal/cli"
	"github.com/sealane/sealane/internal/kernel/process"
)

// version is set at build time.
var version string

func main() {
	process.Stage() // in a supervisor it does not return
	console := cli.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(cli.Run(context.Background(), console, version, os.Args[1:]))
}
