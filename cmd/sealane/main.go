// Command sealane is the client: the command line of Sealane. Under the name pipework it
// is its verb of that name.
package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/sealane/sealane/internal/cli"
	"github.com/sealane/sealane/internal/kernel/process"
)

// version is set at build time.
var version string

func main() {
	process.Stage() // in a supervisor it does not return
	console := cli.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "pipework" {
		args = append([]string{"pipework"}, args...)
	}
	os.Exit(cli.Run(context.Background(), console, version, args))
}
