package dns

import (
	"maps"
	"sync/atomic"

	"github.com/sealane/sealane/internal/tally"
)

// source is where the answer to a question came from.
type source int

const (
	fromHere   source = iota // zones, or what this resolver answers by itself
	fromCache                // what a server has said before
	fromServer               // a server was asked
	overLimit                // refused: the sandbox asks too much
	fromNobody               // there is nobody to ask
	senseless                // refused: not a question that can be read
	sources
)

func (s source) String() string {
	return [sources]string{"local", "cache", "upstream", "limit", "nobody", "malformed"}[s]
}

// counts are what all sandboxes together have asked.
type counts struct {
	questions [sources]atomic.Uint64
	flights   tally.Times[string] // by what came of them
}

// What comes of a question that is forwarded.
const (
	told    = "answered" // also that there is nothing
	useless = "error"    // no server said better than that it cannot tell
	silence = "silence"  // no server said anything
)

func outcome(e *entry) string {
	switch {
	case e == nil:
		return silence
	case !e.usable:
		return useless
	}
	return told
}

// Counts are what a resolver has done since it was made.
type Counts struct {
	Sandboxes int               // that it serves
	Questions map[string]uint64 // by where the answer came from: local, cache, upstream, limit, nobody, malformed
	// Flights are how long it took to get answers from servers, by what came of it:
	// answered, error, silence. Several who ask the same wait for one flight.
	Flights map[string]tally.Reading
}

// Counts returns them.
func (r *Resolver) Counts() Counts {
	c := Counts{Sandboxes: len(r.keys()), Questions: map[string]uint64{}, Flights: map[string]tally.Reading{told: {}, useless: {}, silence: {}}}
	maps.Copy(c.Flights, r.counts.flights.Read())
	for s := range sources {
		c.Questions[s.String()] = r.counts.questions[s].Load()
	}
	return c
}
