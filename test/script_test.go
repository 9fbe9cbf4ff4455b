// Package script holds the whole-system scripts.
package script

import (
	"testing"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/script"
)

func TestMain(m *testing.M) { lab.Main(m, "sealane", "sealane-cni", "sealaned") }

func TestScripts(t *testing.T) { script.Run(t, "script") }
