package kerneltest

import "github.com/sealane/sealane/internal/kstate"

// Adds returns the ops that make objects, in the order given.
func Adds(objs ...kstate.Object) []kstate.Op {
	var ops []kstate.Op
	for _, o := range objs {
		ops = append(ops, kstate.Op{New: o})
	}
	return ops
}

// Dels returns the ops that remove objects, in the order given.
func Dels(objs ...kstate.Object) []kstate.Op {
	var ops []kstate.Op
	for _, o := range objs {
		ops = append(ops, kstate.Op{Old: o})
	}
	return ops
}
