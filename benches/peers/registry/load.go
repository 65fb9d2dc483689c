package main

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "embed"
	"encoding/json"
)

const accept = "Accept: " + manifestType + ", " + indexType + "\r\n"

// What one run of a cell has given.
type result struct {
	Seconds  float64 `json:"seconds"`
	Requests int     `json:"requests"`
	Errors   int     `json:"errors"`
	Bytes    float64 `json:"bytes"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	Note     string  `json:"note,omitempty"`
}

// One of the things that are measured: what a worker does over and over. Bytes is what it moves each time.
type operation struct {
	bytes int
	once  func(connection *connection, number int) error
}

func readOperation(made content, cell string) operation {
	method, header := "GET", accept
	if strings.HasPrefix(cell, "head-") {
		method = "HEAD"
	}
	size := 0
	if cell == "pull-64m" {
		size, header = largeSize, ""
	}
	paths := made.paths(cell)
	return operation{size, func(c *connection, number int) error {
		_, err := c.ask(method, paths[number%len(paths)], header, nil, 200)
		return err
	}}
}

// Blobs that no server has seen: all but the last 64 bytes are the same, so that the client hashes only these.
func pushOperation(cell string, seed int64) operation {
	size := mebibyte
	if strings.HasSuffix(cell, "64m") {
		size = largeSize
	}
	const own = 64
	common := random(seed, size-own)
	hasher := sha256.New()
	hasher.Write(common)
	state, err := hasher.(encoding.BinaryMarshaler).MarshalBinary()
	must(err)
	name := func(tail []byte) string {
		var copied hash.Hash = sha256.New()
		must(copied.(encoding.BinaryUnmarshaler).UnmarshalBinary(state))
		copied.Write(tail)
		return "sha256:" + hex.EncodeToString(copied.Sum(nil))
	}
	return operation{size, func(c *connection, number int) error {
		tail := make([]byte, own)
		binary.BigEndian.PutUint64(tail, uint64(number))
		binary.BigEndian.PutUint64(tail[8:], uint64(seed))
		if strings.HasPrefix(cell, "push-whole") {
			return c.pushWhole("bench/pushed", name(tail), [][]byte{common, tail})
		}
		const part = 4 * mebibyte
		var parts [][][]byte
		for start := 0; start < size; start += part {
			end := min(start+part, size)
			piece := [][]byte{common[start:min(end, len(common))]}
			if end == size {
				piece = append(piece, tail)
			}
			parts = append(parts, piece)
		}
		return c.pushParts("bench/pushed", name(tail), parts)
	}}
}

// Runs an operation on so many connections until the time or the bytes are used up.
func load(address string, work operation, connections int, seconds float64, limit int) (result, error) {
	var next, failures atomic.Int64
	var firstFailure atomic.Pointer[error]
	most := int64(1) << 62
	if limit > 0 && work.bytes > 0 {
		most = int64(max(limit/work.bytes, connections))
	}
	times := make([][]time.Duration, connections)
	opened := make([]*connection, connections)
	for worker := range opened {
		connection, err := dial(address)
		if err != nil {
			return result{}, err
		}
		defer connection.close()
		opened[worker] = connection
	}
	var group sync.WaitGroup
	begin := time.Now()
	end := begin.Add(time.Duration(seconds * float64(time.Second)))
	for worker, connection := range opened {
		group.Go(func() {
			for {
				started := time.Now()
				number := next.Add(1) - 1
				if started.After(end) || number >= most {
					return
				}
				if err := work.once(connection, int(number)); err != nil {
					failures.Add(1)
					firstFailure.CompareAndSwap(nil, &err)
					return
				}
				times[worker] = append(times[worker], time.Since(started))
			}
		})
	}
	group.Wait()
	elapsed := time.Since(begin).Seconds()
	all := slices.Concat(times...)
	slices.Sort(all)
	out := result{Seconds: elapsed, Requests: len(all), Errors: int(failures.Load())}
	out.Bytes = float64(len(all)) * float64(work.bytes)
	if len(all) > 0 {
		out.P50 = float64(all[len(all)/2].Microseconds())
		out.P99 = float64(all[len(all)*99/100].Microseconds())
	}
	if failure := firstFailure.Load(); failure != nil {
		out.Note = (*failure).Error()
	}
	return out, nil
}

//go:embed wrk.lua
var script []byte

// Small GETs are asked by wrk.
func wrk(address string, paths []string, connections int, seconds float64) (result, error) {
	directory, err := os.MkdirTemp("", "wrk")
	if err != nil {
		return result{}, err
	}
	defer os.RemoveAll(directory)
	file := filepath.Join(directory, "wrk.lua")
	list := filepath.Join(directory, "paths")
	must(os.WriteFile(file, script, 0o600))
	must(os.WriteFile(list, []byte(strings.Join(paths, "\n")+"\n"), 0o600))
	command := exec.Command("wrk", "--threads", "2", "--connections", fmt.Sprint(connections),
		"--duration", fmt.Sprintf("%ds", max(int(seconds), 1)), "--timeout", "30s", "--latency", "--script", file,
		"--header", strings.TrimSpace(accept), "http://"+address, "--", list)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	output, err := command.Output()
	if err != nil {
		return result{}, fmt.Errorf("wrk: %w: %s", err, complaint.String())
	}
	for line := range strings.Lines(string(output)) {
		if strings.HasPrefix(line, "{") {
			var out result
			return out, json.Unmarshal([]byte(line), &out)
		}
	}
	return result{}, fmt.Errorf("wrk says nothing: %s%s", output, complaint.String())
}
