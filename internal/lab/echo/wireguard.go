package main

import (
	"fmt"
	"os"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// encrypt is a WireGuard device as anybody has it: made by wireguard-go, and told its
// keys and peers in the lines of its configuration protocol.
func encrypt(args []string) error {
	f := flags("wireguard")
	f.Parse(args)
	if f.NArg() != 2 {
		f.Usage()
		os.Exit(2)
	}
	conf, err := os.ReadFile(f.Arg(1))
	if err != nil {
		return err
	}
	t, err := tun.CreateTUN(f.Arg(0), device.DefaultMTU)
	if err != nil {
		return err
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, f.Arg(0)))
	if err := d.IpcSet(string(conf)); err != nil {
		return err
	}
	if err := d.Up(); err != nil {
		return err
	}
	fmt.Println("ready")
	<-d.Wait()
	return nil
}
