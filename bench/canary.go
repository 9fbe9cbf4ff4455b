package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// canary is what the machine did during a run.
type canary struct {
	song  float64 // seconds that the fixed arithmetic took, the longer of two
	steal float64 // share of time that the hypervisor took away
}

// What is no usual time. A busy neighbour on the same core costs an eighth.
const (
	slowSong  = 1.15
	muchSteal = 0.01
)

// disturbed reports whether this was no usual time.
func (c canary) disturbed(usual float64) bool {
	return c.song > slowSong*usual || c.steal > muchSteal
}

// watched runs fn between two songs.
func watched(fn func() error) (canary, error) {
	before, stolen := sing(), steal()
	start := time.Now()
	err := fn()
	took := time.Since(start)
	lost := steal() - stolen
	return canary{max(before, sing()), float64(lost) / max(float64(took), float64(100*time.Millisecond))}, err
}

// sing times about a millisecond of arithmetic in seconds: the better of two,
// so that a tick of the clock is no disturbance.
func sing() float64 {
	return min(verse(), verse())
}

func verse() float64 {
	start := time.Now()
	x := uint64(start.UnixNano()) | 1
	for range 1_000_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	if x == 0 { // never; keeps the loop
		return 0
	}
	return time.Since(start).Seconds()
}

// steal returns the time that the hypervisor has taken, per processor in
// hundredths of a second (proc(5), /proc/stat), as far as it is known.
func steal() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var f [8]int64
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d %d", &f[0], &f[1], &f[2], &f[3], &f[4], &f[5], &f[6], &f[7]); err != nil {
		return 0
	}
	return time.Duration(f[7]) * 10 * time.Millisecond
}
