// A registry's requests over the loopback, for orlop and others on the same data: each server a process of its own, one after
// the other, and a process as the client. Small GETs are asked by wrk, everything else by a client in this program.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

var cells = []string{
	"get-tag", "get-digest", "head-tag", "head-digest", "referrers", "pull-64m",
	"push-whole-1m", "push-parts-1m", "push-whole-64m", "push-parts-64m",
}

func must(err error) {
	if err != nil {
		log.Fatal("error: ", err)
	}
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

func main() {
	log.SetFlags(0)
	directory := flag.String("dir", "", "where the servers keep their data; default: a temporary directory; never a tmpfs")
	only := flag.String("only", "", "cells to run, with commas between; default: all of "+strings.Join(cells, ","))
	with := flag.String("servers", "", "servers to run, with commas between; default: all that are there")
	arguments := flag.String("orlop-args", "", "more arguments of orlop serve, with blanks between")
	seconds := flag.Float64("seconds", 5, "how long a cell runs")
	limit := flag.Int("limit", 2048, "a cell that pushes ends after so many MiB")
	connections := flag.Int("connections", 16, "connections, kept open")
	rounds := flag.Int("rounds", 1, "rounds of everything; the table shows the best of each cell")
	keep := flag.Bool("keep", false, "leave the data")
	client := flag.String("client", "", "for this program itself: address and cell")
	seed := flag.Int64("seed", 1, "for this program itself: what is pushed")
	flag.Parse()

	if *client != "" {
		address, cell, _ := strings.Cut(*client, "/")
		must(json.NewEncoder(os.Stdout).Encode(measure(address, cell, *connections, *seconds, *limit*mebibyte, *seed)))
		return
	}
	root := *directory
	if root == "" {
		made, err := os.MkdirTemp("", "orlop-registry-bench")
		must(err)
		root = made
	}
	root, err := filepath.Abs(root)
	must(err)
	wanted := cells
	if *only != "" {
		wanted = list(*only)
	}
	for _, cell := range wanted {
		if !slices.Contains(cells, cell) {
			log.Fatalf("error: no such cell, cell=%s", cell)
		}
	}
	var lines []line
	failed := false
	made := makeContent()
	for round := range *rounds {
		for _, one := range servers(list(*arguments)) {
			if *with != "" && !slices.Contains(list(*with), one.name) {
				continue
			}
			binary, err := one.find()
			if err != nil {
				if *with != "" {
					log.Fatalf("error: %s: %v", one.name, err)
				}
				log.Printf("not there, and not measured: %s", one.name)
				continue
			}
			place := filepath.Join(root, fmt.Sprintf("%s.%d", one.name, round))
			run := func(cell string, started *running) line {
				return cellOf(one, cell, round, started, *connections, *seconds, *limit)
			}
			got, err := serve(one, binary, place, made, wanted, run)
			lines = append(lines, got...)
			if err != nil {
				log.Printf("error: %s: %v", one.name, err)
				failed = true
			}
		}
	}
	table(os.Stderr, best(lines))
	// Nothing is deleted before the end: some file systems pay for it with the next files that are made.
	if !*keep {
		must(os.RemoveAll(root))
	}
	if failed {
		os.Exit(1)
	}
}

// Fills a server and runs the cells on it.
func serve(one server, binary, place string, made content, wanted []string, run func(string, *running) line) ([]line, error) {
	data := filepath.Join(place, "data")
	if one.files {
		data = filepath.Join(place, "files")
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	if one.files {
		if err := made.write(data); err != nil {
			return nil, err
		}
	}
	started, err := one.start(binary, data)
	if err != nil {
		return nil, err
	}
	defer started.end()
	if !one.files {
		if err := made.push(started.address); err != nil {
			return nil, err
		}
	}
	var lines []line
	for _, cell := range wanted {
		if one.files && strings.HasPrefix(cell, "push-") {
			continue
		}
		got := run(cell, started)
		must(json.NewEncoder(os.Stdout).Encode(got))
		lines = append(lines, got)
	}
	return lines, nil
}

// Runs a cell with another process as the client.
func cellOf(one server, cell string, round int, started *running, connections int, seconds float64, limit int) line {
	got := line{Server: one.name, Cell: cell, Connections: connections, Round: round}
	started.peak.Store(memory(started.process.Process.Pid))
	self, err := os.Executable()
	must(err)
	seed := int64(round*len(cells) + slices.Index(cells, cell) + 10)
	command := exec.Command(self, "-client", started.address+"/"+cell, "-connections", fmt.Sprint(connections),
		"-seconds", fmt.Sprint(seconds), "-limit", fmt.Sprint(limit), "-seed", fmt.Sprint(seed))
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		got.Note = err.Error()
		return got
	}
	must(json.Unmarshal(output, &got.result))
	got.Peak = started.peak.Load()
	if got.Seconds > 0 {
		got.Rate = float64(got.Requests) / got.Seconds
		if moves(cell) {
			got.Mebibytes = got.Bytes / mebibyte / got.Seconds
		}
	}
	if got.Errors > 0 && got.Note == "" {
		got.Note = fmt.Sprintf("%d errors", got.Errors)
	}
	return got
}

// The client: makes sure that the server knows what it is asked for, then asks it as often as it can.
func measure(address, cell string, connections int, seconds float64, limit int, seed int64) result {
	if strings.HasPrefix(cell, "push-") {
		got, err := load(address, pushOperation(cell, seed), connections, seconds, limit)
		must(err)
		return got
	}
	made := makeContent()
	work := readOperation(made, cell)
	first, err := dial(address)
	must(err)
	if err := work.once(first, 0); err != nil {
		return result{Note: err.Error()}
	}
	first.close()
	if strings.HasPrefix(cell, "get-") || cell == "referrers" {
		got, err := wrk(address, made.paths(cell), connections, seconds)
		must(err)
		return got
	}
	got, err := load(address, work, connections, seconds, 0)
	must(err)
	return got
}
