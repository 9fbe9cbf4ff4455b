package process

import (
	"encoding/json"
	"os"

	"golang.org/x/sys/unix"
)

// Memory returns a file without a name that holds v as JSON, to be read from its
// beginning by a process that is started with it: nothing of it shows in ps.
func Memory(v any) (*os.File, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("job", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "job")
	if _, err := f.WriteAt(data, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
