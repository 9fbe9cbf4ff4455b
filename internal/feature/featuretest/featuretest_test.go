package featuretest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/sealane/sealane/internal/feature"
)

// end is how a recorded test ended.
type end string

// recorder is a testing.TB that only notes how it was ended.
type recorder struct{ testing.TB }

func (recorder) Helper()               {}
func (recorder) Skip(...any)           { panic(end("skipped")) }
func (recorder) Fatal(...any)          { panic(end("failed")) }
func (recorder) Fatalf(string, ...any) { panic(end("failed")) }

func TestJudge(t *testing.T) {
	missing := &feature.Missing{Name: "vlan", Err: errors.New("no")}
	unsure := errors.New("who knows")
	denied := fmt.Errorf("vlan: %w", os.ErrPermission)
	for _, c := range []struct {
		err      error
		required string
		want     end
	}{
		{missing, "", "skipped"},
		{missing, "bridge,ipvlan", "skipped"},
		{missing, "bridge,vlan", "failed"},
		{missing, "all", "failed"},
		{denied, "", "skipped"},
		{denied, "vlan", "failed"},
		{unsure, "", "failed"},
	} {
		func() {
			defer func() {
				if got := recover(); got != c.want {
					t.Errorf("%v with %s=%q: %v: want %s", c.err, Env, c.required, got, c.want)
				}
			}()
			judge(recorder{}, "vlan", c.err, c.required)
		}()
	}
}

func TestRequire(t *testing.T) {
	t.Setenv(Env, "all")
	Require(t) // nothing asked, nothing ended
	defer func() {
		if got := recover(); got != end("failed") {
			t.Errorf("an unknown feature: %v", got)
		}
	}()
	Require(recorder{}, "teleport")
}
