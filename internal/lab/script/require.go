package script

import (
	"fmt"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealane/sealane/internal/feature/featuretest"
)

func require(s *stage, _ bool, args []string) { featuretest.Require(skipper{s.env.T()}, args...) }

// skipper is a script's test as package featuretest wants it.
type skipper struct{ testscript.T }

// Helper is there for featuretest.T.
func (skipper) Helper() {}

// Fatalf fails the script.
func (t skipper) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }
