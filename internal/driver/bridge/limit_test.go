package bridge

import (
	"math"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

func TestShaper(t *testing.T) {
	for _, c := range []struct {
		name string
		l    model.Limit
		mtu  int
		want kstate.Shaper
	}{
		{"10 Mbit/s", model.Limit{Rate: 1e7}, 1500, kstate.Shaper{Rate: 1_250_000, Burst: 31_250, Queue: 62_500}},
		{"slow: ten frames", model.Limit{Rate: 1e6}, 1500, kstate.Shaper{Rate: 125_000, Burst: 15_180, Queue: 18_305}},
		{"fast: one large segment waits", model.Limit{Rate: 1e9}, 1500, kstate.Shaper{Rate: 125_000_000, Burst: 3_125_000, Queue: 3_125_000 + 65536}},
		{"a burst that is given", model.Limit{Rate: 1e7, Burst: 1_000_001}, 1500, kstate.Shaper{Rate: 1_250_000, Burst: 125_001, Queue: 31_250 + 65536}},
		{"less than a frame", model.Limit{Rate: 1e7, Burst: 8}, 9000, kstate.Shaper{Rate: 1_250_000, Burst: 9018, Queue: 31_250 + 90_180}},
		{"as runtimes have it without one", model.Limit{Rate: 1e7, Burst: math.MaxInt32}, 1500, kstate.Shaper{Rate: 1_250_000, Burst: 1 << 28, Queue: 31_250 + 65536}},
		{"the slowest", model.Limit{Rate: 1000}, 65535, kstate.Shaper{Rate: 125, Burst: 655_530, Queue: 655_533}},
		{"the fastest", model.Limit{Rate: 1e15}, 1500, kstate.Shaper{Rate: 125e12, Burst: math.MaxUint32, Queue: math.MaxUint32}},
		{"the deepest", model.Limit{Rate: 1e7, Burst: 8 * math.MaxUint32}, 1500, kstate.Shaper{Rate: 1_250_000, Burst: math.MaxUint32, Queue: 31_250 + 65536}},
	} {
		c.want.Dev = "d"
		if got := shaper("d", c.l, c.mtu); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
