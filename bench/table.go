package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// table is the rows so far.
type table struct{ rows []row }

// row is one line of the table.
type row struct {
	Measure, Ours, Peer, Ratio, Pairs, Target, Verdict string
}

// limit is a target: a value and what is said about it.
type limit struct {
	value   float64
	atLeast bool
	format  func(float64) string
}

func atMost(v float64, format func(float64) string) limit  { return limit{v, false, format} }
func atLeast(v float64, format func(float64) string) limit { return limit{v, true, format} }

func (l limit) String() string {
	if l.atLeast {
		return "≥ " + l.format(l.value)
	}
	return "≤ " + l.format(l.value)
}

// verdict compares a result to the target.
func (l limit) verdict(got float64) string {
	short := got/l.value - 1
	if l.atLeast {
		short = l.value/got - 1
	}
	switch {
	case short <= 0:
		return "met"
	case short < 1:
		return fmt.Sprintf("missed by %.0f %%", 100*short)
	}
	return fmt.Sprintf("missed by ×%.1f", 1+short)
}

// absolute adds a row about our own median.
func (t *table) absolute(measure string, o outcome, l limit) {
	t.add(row{Measure: measure, Ours: spread(o.ours, l.format), Pairs: count(o), Target: l.String(), Verdict: l.verdict(median(o.ours))})
}

// compared adds a row about a ratio. What is ours and the peer's has a format
// of its own.
func (t *table) compared(measure string, o outcome, format func(float64) string, ratio interval, l limit) {
	verdict := l.verdict(ratio.mid)
	if ratio.low < l.value && l.value < ratio.high {
		verdict += ", within the error"
	}
	t.add(row{Measure: measure, Ours: spread(o.ours, format), Peer: spread(o.peer, format),
		Ratio: ratio.String(), Pairs: count(o), Target: l.String(), Verdict: verdict})
}

// judged adds a row, which has a target or not.
func (t *table) judged(measure string, o outcome, format func(float64) string, ratio interval, l limit) {
	if l.format == nil {
		t.told(measure, o, format, ratio)
		return
	}
	t.compared(measure, o, format, ratio, l)
}

// told adds a row without a target; without a peer there is no ratio.
func (t *table) told(measure string, o outcome, format func(float64) string, ratio interval) {
	r := row{Measure: measure, Ours: spread(o.ours, format), Pairs: count(o)}
	if ratio.mid > 0 {
		r.Peer, r.Ratio = spread(o.peer, format), ratio.String()
	}
	t.add(r)
}

func (t *table) add(r row) {
	t.rows = append(t.rows, r)
	fmt.Fprintf(os.Stderr, "  %s: %s %s %s\n", r.Measure, r.Ours, r.Ratio, r.Verdict)
}

// spread is the median, and the 99th percentile where there is enough to tell.
func spread(xs []float64, format func(float64) string) string {
	s := format(median(xs))
	if len(xs) >= 300 {
		s += " (p99 " + format(quantile(xs, 0.99)) + ")"
	}
	return s
}

// count says how many pairs were kept and dropped; ~ that too few were quiet,
// and all were kept.
func count(o outcome) string {
	if o.noisy {
		return fmt.Sprintf("~%d", len(o.ours))
	}
	return fmt.Sprintf("%d−%d", len(o.ours)+o.dropped, o.dropped)
}

func (t *table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "measure\tours\tpeer\tratio [95 %]\tpairs−dropped\ttarget\tverdict")
	for _, r := range t.rows {
		fmt.Fprintln(tw, strings.Join([]string{r.Measure, r.Ours, r.Peer, r.Ratio, r.Pairs, r.Target, r.Verdict}, "\t"))
	}
	tw.Flush()
}

// Formats of results.
func millis(v float64) string    { return fmt.Sprintf("%.2f ms", 1000*v) }
func times(v float64) string     { return fmt.Sprintf("%g×", v) }
func gbits(v float64) string     { return fmt.Sprintf("%.1f Gbit/s", v/1e9) }
func perSecond(v float64) string { return fmt.Sprintf("%.0f /s", v) }
func seconds(v float64) string   { return fmt.Sprintf("%.2f s", v) }
func kibi(v float64) string      { return fmt.Sprintf("%.0f KiB", v/(1<<10)) }
func mebi(v float64) string      { return fmt.Sprintf("%.1f MiB", v/(1<<20)) }

// machine says in one line what all this ran on.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // an empty release then
	return fmt.Sprintf("Linux %s, %s, %d cpus, %s, %s", unix.ByteSliceToString(u.Release[:]), processor(), runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
}

// processor returns the model of the first processor.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // an unknown one then
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}
