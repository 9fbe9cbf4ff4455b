package main

import "fmt"

// memoryRow measures the resident memory of a daemon with many endpoints, right
// after they were made.
func memoryRow(b *bench, s *sealane) error {
	rss, err := s.memory("VmRSS")
	if err != nil {
		return err
	}
	b.table.absolute(fmt.Sprintf("daemon memory with %d endpoints", many), outcome{ours: []float64{rss}}, atMost(60<<20, mebi))
	return nil
}
