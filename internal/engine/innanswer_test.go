package engine

import (
	"testing"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime/runtimetest"
)

// TestInnAnswers has the inn answer as the runtimes do.
func TestInnAnswers(t *testing.T) {
	for _, r := range []model.Runtime{model.RuntimeDocker, model.RuntimePodman} {
		t.Run(string(r), func(t *testing.T) {
			i := bare(t).inn
			runtimetest.Run(t, runtimetest.World{Finder: i, Runtime: r, Keeper: innkeeper{i, string(r) + ":"}})
		})
	}
}

// innkeeper has the containers of one runtime.
type innkeeper struct {
	*inn
	prefix string
}

func (k innkeeper) Create(_ *testing.T, name string)     { k.create(k.prefix + name) }
func (k innkeeper) Start(_ *testing.T, name string)      { k.start(k.prefix + name) }
func (k innkeeper) Stop(_ *testing.T, name string)       { k.stop(k.prefix + name) }
func (k innkeeper) Rename(_ *testing.T, name, to string) { k.rename(k.prefix+name, to) }
func (k innkeeper) Remove(_ *testing.T, name string)     { k.remove(k.prefix + name) }
func (k innkeeper) Twin(_ *testing.T, name string)       { k.create("lxc:" + name) }
func (k innkeeper) Shut(*testing.T)                      { k.close(model.Runtime(k.prefix[:len(k.prefix)-1]), true) }
