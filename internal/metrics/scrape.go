package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealane/sealane/internal/tally"
)

// scrape is one answer in the making.
type scrape struct {
	known map[string]*described
	out   chan<- prometheus.Metric
}

// put adds a value of a family, with values for its labels in their order.
func (s scrape) put(name string, v float64, labels ...string) {
	d := s.known[name]
	typ := prometheus.GaugeValue
	if d.kind == counter {
		typ = prometheus.CounterValue
	}
	m, err := prometheus.NewConstMetric(d.desc, typ, v, labels...)
	s.send(d, m, err)
}

// times adds a histogram of a family.
func (s scrape) times(name string, r tally.Reading, labels ...string) {
	d := s.known[name]
	m, err := prometheus.NewConstHistogram(d.desc, r.Count, r.Sum.Seconds(), r.Buckets(), labels...)
	s.send(d, m, err)
}

// send adds a metric, or says in the log why there is none.
func (s scrape) send(d *described, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d.desc, err)
	}
	s.out <- m
}

// at adds a time, if there is one.
func (s scrape) at(name string, t time.Time) {
	if !t.IsZero() {
		s.put(name, float64(t.UnixNano())/float64(time.Second))
	}
}

// yes is 1 if it is so.
func yes(so bool) float64 {
	if so {
		return 1
	}
	return 0
}
