package runtime

import "github.com/sealane/sealane/internal/model"

// Served lists the runtimes that are on this host, as far as their files say, and answer
// by a socket.
func (f *Finder) Served() (list []model.Runtime) {
	for _, r := range []model.Runtime{model.RuntimeDocker, model.RuntimePodman, model.RuntimeContainerd} {
		if f.sources[r].here() {
			list = append(list, r)
		}
	}
	return list
}
