package process

import (
	"context"
	"io"
	"os"
	"syscall"
	"time"
)

// drain is how long is read what a command that has ended left in its pipes. A process
// that it left behind may have them open for ever.
const drain = 100 * time.Millisecond

// Shell has sh run a command until it ends, in a process group of its own, and returns
// what it wrote; stdin is what it can read. When ctx is done, the group is killed. What
// a command that has ended left behind in the background is let be.
func Shell(ctx context.Context, command string, env []string, stdin string) (status Status, stdout, stderr []byte, err error) {
	var out, errs capture
	if err := out.open(); err != nil {
		return Status{Code: CodeFailed}, nil, nil, err
	}
	defer out.close()
	if err := errs.open(); err != nil {
		return Status{Code: CodeFailed}, nil, nil, err
	}
	defer errs.close()
	in, feed, err := os.Pipe()
	if err != nil {
		return Status{Code: CodeFailed}, nil, nil, err
	}
	defer feed.Close()
	spec := Spec{Args: []string{"sh", "-c", command}, Env: env, Dir: "/", Group: true}
	c, failure := start(spec, Stdio{In: in, Out: out.w, Err: errs.w}, syscall.SIGKILL)
	in.Close()
	if failure != nil {
		return Status{Code: failure.Code}, nil, nil, failure
	}
	defer c.close()
	out.begin()
	errs.begin()
	go func() {
		io.WriteString(feed, stdin) // who does not read it has no use for it
		feed.Close()
	}()
	select {
	case status = <-c.ended:
	case <-ctx.Done():
		syscall.Kill(-c.pid, syscall.SIGKILL)
		status, err = <-c.ended, ctx.Err()
	}
	for _, f := range []*os.File{out.r, errs.r} {
		f.SetReadDeadline(time.Now().Add(drain))
	}
	return status, out.end(), errs.end(), err
}
