package linux

import (
	"context"
	"fmt"
	"sync"

	"github.com/sealane/sealane/internal/kernel"
)

// Watch passes on what the parts say. Hints that wait are merged into one.
func (l *Linux) Watch(ctx context.Context) (<-chan kernel.Hint, error) {
	ctx, cancel := context.WithCancel(ctx)
	var sources []<-chan string
	for _, w := range l.watched {
		ch, err := w.Watch(ctx)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("watch: %w", err)
		}
		sources = append(sources, ch)
	}
	out := make(chan kernel.Hint, 1)
	var all sync.WaitGroup
	for _, in := range sources {
		all.Go(func() {
			for what := range in {
				select {
				case out <- kernel.Hint{What: what}:
				default: // one waits already
				}
			}
		})
	}
	go func() {
		all.Wait()
		cancel()
		close(out)
	}()
	return out, nil
}

// Heed has Watch tell of what happens to the host's device of a name, whoever made it.
func (l *Linux) Heed(device string) { l.links.Heed(device) }
