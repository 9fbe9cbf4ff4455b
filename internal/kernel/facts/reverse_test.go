package facts

import (
	"fmt"
	"os"
	"testing"
)

func TestStrictPaths(t *testing.T) {
	err := inNewNamespace(func() error {
		for _, value := range []string{"0", "1", "2"} {
			if err := os.WriteFile(strictPath, []byte(value), 0); err != nil {
				return err
			}
			if got, want := StrictPaths(), value == "1"; got != want {
				return fmt.Errorf("%s: %v, want %v", value, got, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
