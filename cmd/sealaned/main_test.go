package main

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

// tied is whether main's goroutine is bound to its thread when main begins, which it is to
// the first one if it was when the program was initialized.
var tied bool

func TestMain(m *testing.M) {
	stack := make([]byte, 1<<10)
	first, _, _ := strings.Cut(string(stack[:runtime.Stack(stack, false)]), "\n")
	tied = strings.Contains(first, "locked to thread")
	os.Exit(m.Run())
}

// TestFirstThread: who visits a sandbox must not be the thread that the process is known by.
func TestFirstThread(t *testing.T) {
	if !tied {
		t.Error("main may leave the first thread to others, which visit sandboxes")
	}
}
