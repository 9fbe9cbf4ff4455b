package udptun

import (
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// stopper ends goroutines that wait in the kernel. They do not wait with the
// runtime's poller: from there a packet takes twice as long, over a scheduler
// that wakes further threads to look for work.
type stopper struct {
	once sync.Once
	fd   int         // an eventfd, readable when they are told to end
	told atomic.Bool // after that: whoever sees it may close fd
}

func newStopper() (*stopper, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return &stopper{fd: fd}, os.NewSyscallError("eventfd", err)
}

// stop tells all to end, at once or before they wait again.
func (s *stopper) stop() {
	s.once.Do(func() {
		_, _ = unix.Write(s.fd, []byte{1, 0, 0, 0, 0, 0, 0, 1}) // not zero in either byte order
		s.told.Store(true)
	})
}

// serve calls turn until it is told to stop, or until turn returns an error.
// When turn has found nothing to read in fd, it waits.
func (s *stopper) serve(fd int, turn func() (more bool, err error)) error {
	wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(s.fd), Events: unix.POLLIN}}
	for !s.told.Load() {
		more, err := turn()
		if err != nil {
			return err
		}
		if more {
			continue
		}
		if _, err := unix.Poll(wait, -1); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
	return nil
}
