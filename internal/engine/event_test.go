package engine

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestEvents: who waits is told at once, who asks later gets what is remembered, and
// what fails or changes nothing is nothing.
func TestEvents(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		_, at := r.e.Events(r.ctx, -1)
		actions := func(from int) (string, int) {
			list, next := r.e.Events(r.ctx, from)
			var out []string
			for _, ev := range list {
				out = append(out, ev.Type+" "+ev.Action+" "+ev.Attributes["name"])
			}
			return strings.Join(out, ", "), next
		}
		told := make(chan string)
		go func() {
			list, _ := r.e.Events(r.ctx, at)
			told <- list[0].Action
		}()
		r.network("app", "10.1.0.0/24")
		if got := <-told; got != "create" {
			t.Errorf("told of %s", got)
		}
		r.sandbox("web", SandboxSpec{Networks: on("app")})
		if err := r.e.RemoveNetwork(r.ctx, "app"); err == nil {
			t.Error("removed")
		}
		if _, err := r.e.UpdateNetwork(r.ctx, "app", NetworkUpdate{}); err != nil {
			t.Error(err)
		}
		r.ok(r.e.Disconnect(r.ctx, "web", "app"))
		got, next := actions(at)
		if want := "network create app, sandbox create web, network connect app, network disconnect app"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		for range keptEvents {
			_, err := r.e.UpdateNetwork(r.ctx, "app", NetworkUpdate{Labels: map[string]string{"k": r.e.cfg.Now().String()}})
			r.ok(err)
			time.Sleep(time.Second)
		}
		if got, _ := actions(next - 1); strings.Count(got, "update") != keptEvents || strings.Contains(got, "disconnect") {
			t.Errorf("%d are remembered", strings.Count(got, "update"))
		}
		ctx, cancel := context.WithTimeout(r.ctx, time.Second)
		defer cancel()
		_, end := r.e.Events(r.ctx, -1)
		if list, n := r.e.Events(ctx, end); len(list) > 0 || n != end {
			t.Errorf("%v, %d", list, n)
		}
		if list, n := r.e.Events(r.ctx, end+5); len(list) > 0 || n != end { // of the daemon before
			t.Errorf("%v, %d", list, n)
		}
	})
}
