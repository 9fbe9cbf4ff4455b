package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/feature"
)

func TestCapable(t *testing.T) {
	lacks := func(name string) func(string) error {
		return func(asked string) error {
			if asked == name {
				return &feature.Missing{Name: name, Needs: "CONFIG_X", Err: errors.New("operation not supported")}
			}
			return nil
		}
	}
	err := capable(lacks(feature.Nftables))
	if err == nil || !strings.Contains(err.Error(), "nftables: needs CONFIG_X") {
		t.Errorf("without nftables: %v", err)
	}
	if err := capable(lacks(feature.Macvlan)); err != nil {
		t.Errorf("without macvlan, which no bridge network needs: %v", err)
	}
	if err := capable(func(string) error { return errors.New("permission denied") }); err != nil {
		t.Errorf("when it cannot be told: %v", err)
	}
}
