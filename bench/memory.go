package main

// memoryRow measures the resident memory of a daemon with many endpoints, right
// after they were made.
func memoryRow(b *bench, s *sealane) error {
	rss, err := s.memory()
	if err != nil {
		return err
	}
	b.table.absolute("daemon memory with 1000 endpoints", outcome{ours: []float64{rss}}, atMost(60<<20, mebi))
	return nil
}
