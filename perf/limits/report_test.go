//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

func TestMarkdown(t *testing.T) {
	tab := newTable()
	for i, ours := range []time.Duration{8, 4, 2} { // rates of 1, 2 and 4 for every 8 of the limit
		n := 8 * (i + 1)
		tab.add(consumerLoop, figure{n, time.Duration(i+1) * time.Second, time.Second})
		tab.add(xaddLoop, figure{n, time.Duration(i+1) * time.Second / 2, 2 * time.Second})
		tab.add(filterTen, figure{n, time.Duration(i+1) * ours * time.Second, 10 * time.Second})
	}
	got := tab.markdown(config{events: 8, rounds: 3, filters: 100})
	for _, want := range []string{
		"| bare franz-go consumer | 8 | 16 |  |  |\n",
		"| bare XADD of the lanes' entries | 16 | 8 |  |  |\n",
		"| `eventstream filter`, ten matches | 2 | 2 | 0.25 | 0.20 |\n", // of the lower limit, in each respect
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, producerBare) {
		t.Errorf("what was not measured has a row:\n%s", got)
	}
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":              "",
		"--events 10":   "--events must be at least 1000",
		"--rounds 0":    "--rounds at least 1",
		"--filters 50":  "want at least 100",
		"--java java x": "",
	} {
		_, err := flags(strings.Fields(args))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("limits %s: %v; want %q", args, err, want)
		}
	}
}
