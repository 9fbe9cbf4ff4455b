package linux

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What a sandbox's user writes into its files stays, as in Docker: a line more in
// /etc/hosts, another server in /etc/resolv.conf. To tell that from what we
// wrote, each file has our text of it in an extended attribute. A file without
// one, such as one that we were killed in the middle of, is all ours.
const written = "trusted.sealane"

// maxFile is the most of a file that is looked at; what is longer is not ours.
const maxFile = 1 << 20

// wrote returns what we last wrote into a file, if that is known.
func wrote(f *os.File) (string, bool) {
	buf := make([]byte, 512)
	for {
		n, err := unix.Fgetxattr(int(f.Fd()), written, buf)
		switch {
		case err == nil:
			return string(buf[:n]), true
		case err != unix.ERANGE || len(buf) >= maxFile:
			return "", false
		}
		buf = make([]byte, 4*len(buf))
	}
}

// note keeps what we wrote. Where there is no room for it, or no right to, the
// file stays all ours.
func note(f *os.File, content string) {
	if unix.Fsetxattr(int(f.Fd()), written, []byte(content), 0) != nil {
		unix.Fremovexattr(int(f.Fd()), written)
	}
}

// look reads a file as it is and as we wrote it.
func look(f *os.File) (have, ours string, err error) {
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return "", "", err
	}
	have = string(b)
	ours, known := wrote(f)
	if !known {
		ours = have
	}
	return have, ours, nil
}

// merge is the text of a file whose user changed ours into have, now that we want
// another: of hosts, with the lines that are new to us and without those that are
// no longer ours. Everything else is the user's own as a whole.
func merge(path, have, ours, want string) string {
	switch {
	case have == ours, have == want:
		return want
	case filepath.Base(path) != "hosts" || len(have) >= maxFile:
		return have
	}
	gone, added := without(ours, want), without(want, ours)
	var b strings.Builder
	for line := range strings.Lines(have) {
		if gone[line] > 0 {
			gone[line]--
			continue
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	for line := range strings.Lines(want) {
		if added[line] > 0 {
			added[line]--
			b.WriteString(line)
		}
	}
	return b.String()
}

// without counts the lines of a text that are not in another.
func without(text, other string) map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(text) {
		n[line]++
	}
	for line := range strings.Lines(other) {
		n[line]--
	}
	return n
}
