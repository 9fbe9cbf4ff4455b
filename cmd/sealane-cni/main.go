// Command sealane-cni is what is executed once per container: the CNI plugin, and
// under the name pipework what takes that script's place. It is a program of its
// own for its size: the less there is to load, the sooner a container has its
// network.
package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/cni"
	"github.com/sealane/sealane/internal/pipework"
)

func main() {
	ctx := context.Background()
	if filepath.Base(os.Args[0]) == "pipework" {
		console := pipework.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Socket: cmp.Or(os.Getenv("SEALANE_SOCKET"), api.DefaultSocket)}
		os.Exit(pipework.Run(ctx, console, os.Args[1:]))
	}
	os.Exit(cni.Run(ctx, cni.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}))
}
