package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/model"
)

var fast = model.Health{Interval: time.Second, Timeout: time.Second, Retries: 3}

func TestTally(t *testing.T) {
	hour := model.Health{Interval: time.Hour, Timeout: time.Second, Retries: 1}
	for _, c := range []struct {
		h       model.Health
		state   model.HealthState
		answers string // + serves, - does not
		want    string // states, where they change
	}{
		{fast, model.HealthStarting, "+", "0 healthy"},
		{fast, model.HealthStarting, "---+", "2 unhealthy, 3 healthy"},
		{fast, model.HealthUp, "--+--+---", "8 unhealthy"},
		{fast, model.HealthDown, "----+---", "4 healthy, 7 unhealthy"},
		{fast, "", "--+", "2 healthy"},
		{fast, "", "---", "2 unhealthy"},
		{hour, model.HealthStarting, strings.Repeat("-", 3600) + "-+", "3599 unhealthy, 3601 healthy"},
		{hour, model.HealthUp, "-+", "0 unhealthy, 1 healthy"},
	} {
		y := tally{Health: c.h, state: c.state}
		var got []string
		for i, a := range c.answers {
			if y.add(a == '+') {
				got = append(got, fmt.Sprint(i, " ", y.state))
			}
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s from %q: %s, want %s", c.answers, c.state, text, c.want)
		}
	}
}

// ward is a Checker whose backends answer as the test says.
type ward struct {
	*Checker
	mu    sync.Mutex
	sick  map[string]bool
	asked map[string]int
	at    int // once
	peak  int
	slow  time.Duration
	said  []string
}

func newWard() *ward {
	w := &ward{Checker: New(), sick: map[string]bool{}, asked: map[string]int{}}
	w.ask = func(ctx context.Context, c Check) error {
		w.mu.Lock()
		w.asked[c.Name+c.Seat]++
		w.at++
		w.peak = max(w.peak, w.at)
		slow := w.slow
		w.mu.Unlock()
		rest(ctx, slow)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.at--
		if w.sick[c.Name] {
			return errors.New("is\nsick " + strings.Repeat("é", maxWords))
		}
		return nil
	}
	w.Start(func(c Check, s model.HealthState) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.said = append(w.said, c.Name+c.Seat+" "+string(s))
	})
	return w
}

func (w *ward) makes(name string, sick bool) { w.mu.Lock(); defer w.mu.Unlock(); w.sick[name] = sick }

// told returns what was said since it was asked last, in order.
func (w *ward) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.said)
	out := strings.Join(w.said, ", ")
	w.said = nil
	return out
}

func TestWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		defer w.Close()
		expect := func(what string, d time.Duration, want string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := w.told(); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		w.makes("b", true)
		a, b := Check{Name: "a", Health: fast, State: model.HealthStarting}, Check{Name: "b", Health: fast, State: model.HealthUp}
		w.Want([]Check{a, b})
		expect("the first is asked soon", 101*time.Millisecond, "a healthy")
		expect("and the other often enough", 5*time.Second, "b unhealthy")
		if text := w.Trouble("b"); !strings.HasPrefix(text, `is\nsick é`) || len(text) > maxWords+3 || strings.Contains(text, "\ufffd") || w.Trouble("a")+w.Trouble("c") != "" {
			t.Errorf("%q", text)
		}
		a.State = model.HealthUp
		w.Want([]Check{a, b})
		expect("the same again", 10*time.Second, "")
		w.makes("b", false)
		expect("one success", 2*time.Second, "b healthy")
		if text := w.Trouble("b"); text != "" {
			t.Error(text)
		}
		a.Seat, a.State = "2", model.HealthStarting
		w.Want([]Check{a})
		w.makes("b", true)
		expect("one begins anew, the other is wanted no more", 10*time.Second, "a2 healthy")
		w.mu.Lock()
		if w.asked["b"] > 20 || w.asked["a2"] < 8 {
			t.Errorf("%v", w.asked)
		}
		w.mu.Unlock()
		w.Want(nil)
		w.makes("a", true)
		expect("nobody", time.Minute, "")
	})
}

// TestClose: nothing goes on after it, whatever was under way, and many are asked few at once.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard()
		w.slow = 100 * time.Millisecond
		var all []Check
		for i := range 1000 {
			all = append(all, Check{Name: fmt.Sprint(i), Health: fast, State: model.HealthStarting})
		}
		w.Want(all)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.mu.Lock()
		if len(w.said) != 1000 || w.peak != most {
			t.Errorf("%d told, %d at once", len(w.said), w.peak)
		}
		w.mu.Unlock()
		for range 20 {
			w.Want(all[rand.N(500):][:500])
		}
		w.Close()
		w.Want(all)
		synctest.Wait() // the bubble ends only when no goroutine is left
	})
}
