// Package featuretest lets tests depend on what the kernel can do. It is apart
// from package feature so that the daemon does not carry package testing.
package featuretest

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/feature"
)

// Env names the features that must be there, separated by commas, or "all": a
// test that needs one of them fails where it would have been skipped, so that
// no skip goes unnoticed where tests are meant to run.
const Env = "REQUIRE"

// T is what Require needs of a test.
type T interface {
	Helper()
	Skip(...any)
	Fatal(...any)
	Fatalf(string, ...any)
}

// Require skips the test if the kernel lacks a feature, or fails it if Env
// names the feature. It fails it also when that cannot be found out for
// another reason than the want of privileges.
func Require(t T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := feature.Check(name); err != nil {
			judge(t, name, err, os.Getenv(Env))
		}
	}
}

// judge ends the test over a feature that is not there.
func judge(t T, name string, err error, required string) {
	t.Helper()
	list := strings.FieldsFunc(required, func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(list, name) || slices.Contains(list, "all") {
		t.Fatalf("required: %v", err)
	}
	var missing *feature.Missing
	if errors.As(err, &missing) || errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	t.Fatal(err)
}
