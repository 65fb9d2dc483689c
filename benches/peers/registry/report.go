package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A line of the output: a cell of one server.
type line struct {
	Server      string `json:"server"`
	Cell        string `json:"cell"`
	Connections int    `json:"connections"`
	Round       int    `json:"round"`
	result
	// Requests in a second, and MiB in a second for what moves blobs.
	Rate      float64 `json:"rate"`
	Mebibytes float64 `json:"mib_per_s,omitempty"`
	// Of the server at its highest while the cell ran.
	Peak int64 `json:"rss_anon_peak_kb"`
	// Against the best round of these servers, of this run.
	OfNginx  float64 `json:"of_nginx,omitempty"`
	OfDocker float64 `json:"of_docker_registry,omitempty"`
}

func moves(cell string) bool {
	return strings.HasPrefix(cell, "push-") || strings.HasPrefix(cell, "pull-")
}

// The best round of every server and cell, with its ratios.
func best(lines []line) []line {
	type key struct{ server, cell string }
	found := map[key]int{}
	var out []line
	for _, one := range lines {
		at, known := found[key{one.Server, one.Cell}]
		if !known {
			found[key{one.Server, one.Cell}] = len(out)
			out = append(out, one)
		} else if one.Rate > out[at].Rate {
			peak := max(one.Peak, out[at].Peak)
			out[at] = one
			out[at].Peak = peak
		}
	}
	ratio := func(one line, server string) float64 {
		at, known := found[key{server, one.Cell}]
		if !known || out[at].Rate == 0 {
			return 0
		}
		return one.Rate / out[at].Rate
	}
	for at := range out {
		out[at].OfNginx = ratio(out[at], "nginx")
		out[at].OfDocker = ratio(out[at], "docker-registry")
	}
	return out
}

func table(to io.Writer, lines []line) {
	writer := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(writer, "cell\tserver\trate/s\tMiB/s\tp50 us\tp99 us\tRssAnon MiB\tof nginx\tof docker-registry\t  ")
	show := func(number float64, decimals int) string {
		if number == 0 {
			return "-"
		}
		return fmt.Sprintf("%.*f", decimals, number)
	}
	for _, cell := range cells {
		for _, one := range lines {
			if one.Cell != cell {
				continue
			}
			fmt.Fprintf(writer, "%s\t%s\t%s\t%s\t%.0f\t%.0f\t%.0f\t%s\t%s\t  %s\n", one.Cell, one.Server, show(one.Rate, 1),
				show(one.Mebibytes, 0), one.P50, one.P99, float64(one.Peak)/1024, show(one.OfNginx, 2), show(one.OfDocker, 2), one.Note)
		}
	}
	writer.Flush()
}
