package lab

import (
	"os/exec"
	"testing"
)

// Needs fails a test where programs are not installed.
func Needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("needs %s: make packages installs it", p)
		}
	}
}

// Root is a shell script that makes a root file system in the directory $1, whose
// only program is lab-echo.
const Root = `set -e
mkdir -p $1/dev $1/proc $1/sys $1/usr $1/etc $1/tmp $1/run
cp -f $(command -v lab-echo) $1/
touch $1/etc/os-release
`
