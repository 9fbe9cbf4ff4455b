package process

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestOutput(t *testing.T) {
	sh := func(script string) Spec { return Spec{Args: []string{"sh", "-c", script}} }
	status, out, errs, err := Output(t.Context(), sh("cat; echo one; echo two >&2; exit 7"))
	if err != nil || status.Code != 7 || string(out) != "one\n" || string(errs) != "two\n" {
		t.Errorf("%v, %q, %q, %v", status, out, errs, err)
	}
	status, out, _, err = Output(t.Context(), sh("head -c 3000000 /dev/zero; exit 3"))
	if err != nil || status.Code != 3 || len(out) != maxOutput {
		t.Errorf("much output: %v, %d bytes, %v", status, len(out), err)
	}
	if status, _, _, err := Output(t.Context(), Spec{Args: []string{"/none/such"}}); err == nil || status.Code != CodeNotFound {
		t.Errorf("no such command: %v, %v", status, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	status, _, _, err = Output(ctx, Spec{Args: []string{"sleep", "600"}})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(status.Signal, "killed") {
		t.Errorf("too long: %v, %v", status, err)
	}
}
