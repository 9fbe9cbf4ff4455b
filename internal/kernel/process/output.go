package process

import (
	"context"
	"io"
	"os"
	"sync"
	"syscall"
)

// maxOutput is the most that Output keeps of each of the two files, in bytes.
const maxOutput = 1 << 20

// Output runs a command until it ends and returns what it wrote, without standard
// input. When ctx is done it is killed.
func Output(ctx context.Context, spec Spec) (status Status, stdout, stderr []byte, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return Status{Code: CodeFailed}, nil, nil, err
	}
	defer null.Close()
	var out, errs capture
	if err := out.open(); err != nil {
		return Status{Code: CodeFailed}, nil, nil, err
	}
	defer out.close()
	if err := errs.open(); err != nil {
		return Status{Code: CodeFailed}, nil, nil, err
	}
	defer errs.close()
	c, failure := start(spec, Stdio{In: null, Out: out.w, Err: errs.w}, syscall.SIGKILL)
	if failure != nil {
		return Status{Code: failure.Code}, nil, nil, failure
	}
	defer c.close()
	out.begin()
	errs.begin()
	select {
	case status = <-c.ended:
	case <-ctx.Done():
		c.signal(syscall.SIGKILL)
		status, err = <-c.ended, ctx.Err()
	}
	return status, out.end(), errs.end(), err
}

// capture keeps what is written into a pipe.
type capture struct {
	r, w *os.File
	done sync.WaitGroup
	text []byte
}

func (c *capture) open() (err error) {
	c.r, c.w, err = os.Pipe()
	return err
}

// begin reads in the background. What is too much is read and forgotten, or the
// writer would wait.
func (c *capture) begin() {
	c.w.Close()
	c.done.Go(func() {
		c.text, _ = io.ReadAll(io.LimitReader(c.r, maxOutput))
		io.Copy(io.Discard, c.r)
	})
}

func (c *capture) end() []byte {
	c.done.Wait()
	return c.text
}

func (c *capture) close() {
	c.r.Close()
	c.w.Close()
}
