package engine

import (
	"testing"

	"github.com/sealane/sealane/internal/model"
)

// Nobody is found by what he has not got: thousands may not have it.
func TestMarksOfNothing(t *testing.T) {
	awaited := &model.Sandbox{Mode: model.ModeOther, Guest: &model.Guest{Runtime: model.RuntimeDocker, Name: "web"}, Endpoints: []model.Endpoint{{}}}
	if got := marks(awaited); len(got) != 1 || got[0] != named(model.RuntimeDocker, "web") {
		t.Errorf("marks of one that is awaited: %v", got)
	}
	if got := marks(nil); got != nil {
		t.Errorf("marks of nobody: %v", got)
	}
}
