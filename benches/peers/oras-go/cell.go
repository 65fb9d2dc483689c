package main

// The cells of `orlop bench --with`: the protocol is in docs/benchmarks.md. The data are those of
// src/bin/orlop/bench/data.rs, made again.

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	spec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"
)

const (
	block      = 1 << 20
	small      = 4096
	largeCount = 8
	largeSize  = 256 << 20
	five       = 5
	lists      = 20
	opens      = 5
)

type cell struct {
	prepares bool
	workload string
	dir      string
	scale    uint64
	budget   time.Duration
	start    time.Time
}

func (c *cell) count(full uint64) int {
	return int(max(full*c.scale/1_000_000, 1))
}

func (c *cell) large() int64 {
	return int64((c.count(largeSize) + 4095) / 4096 * 4096)
}

func (c *cell) path() string {
	return filepath.Join(c.dir, "store")
}

func (c *cell) begin() {
	fmt.Println("begin")
	c.start = time.Now()
}

func (c *cell) over() bool {
	return time.Since(c.start) > c.budget
}

// end says what was done. Nothing that oras-go writes is durable by then.
func (c *cell) end(n, of int, bytes int64, writes bool) {
	seconds := time.Since(c.start).Seconds()
	said := map[string]any{"n": n, "of": of, "bytes": bytes, "seconds": seconds, "durable": nil, "rss_anon_kb": memory()}
	if writes {
		said["durable"] = false
	}
	must(json.NewEncoder(os.Stdout).Encode(said))
}

// memory is the anonymous memory of this process.
func memory() uint64 {
	text, err := os.ReadFile("/proc/self/status")
	must(err)
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, "RssAnon:"); found {
			number, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			must(err)
			return number
		}
	}
	return 0
}

// random is xorshift64*.
type random uint64

func newRandom(seed uint64) *random {
	r := random(seed*0x9E3779B97F4A7C15 | 1)
	return &r
}

func (r *random) next() uint64 {
	x := uint64(*r)
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	*r = random(x)
	return x * 0x2545F4914F6CDD1D
}

func (r *random) below(bound int) int {
	return int(r.next() % uint64(max(bound, 1)))
}

func content(seed uint64, size int) []byte {
	r := newRandom(seed)
	out := make([]byte, 0, size+8)
	for len(out) < size {
		out = binary.BigEndian.AppendUint64(out, r.next())
	}
	return out[:size]
}

// stream is one block of noise over and over, each time with another mark at its beginning.
type stream struct {
	noise    []byte
	seed     uint64
	at, size int64
}

func (s *stream) Read(buffer []byte) (int, error) {
	done := 0
	for done < len(buffer) && s.at < s.size {
		within := int(s.at % block)
		source := s.noise[within:]
		if within < 16 {
			mark := binary.BigEndian.AppendUint64(nil, s.seed)
			source = binary.BigEndian.AppendUint64(mark, uint64(s.at/block))[within:]
		}
		count := copy(buffer[done:], source[:min(int64(len(source)), s.size-s.at)])
		done += count
		s.at += int64(count)
	}
	if done == 0 && len(buffer) > 0 {
		return 0, io.EOF
	}
	return done, nil
}

func described(mediaType string, content []byte) spec.Descriptor {
	return spec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

func open(path string) *oci.Store {
	store, err := oci.New(path)
	must(err)
	return store
}

func sideBySide(threads, count int, work func(int)) {
	var wait sync.WaitGroup
	next := make(chan int, count)
	for number := range count {
		next <- number
	}
	close(next)
	for range threads {
		wait.Go(func() {
			for number := range next {
				work(number)
			}
		})
	}
	wait.Wait()
}

// largeContents has the digests of large contents made before the clock runs, as oras-go wants to be told what comes.
func (c *cell) largeContents(writers int) {
	noise := content(^uint64(0), block)
	source := func(number int) *stream { return &stream{noise: noise, seed: uint64(number), size: c.large()} }
	list := filepath.Join(c.dir, "digests")
	if c.prepares {
		var digests []digest.Digest
		for number := range largeCount {
			found, err := digest.FromReader(source(number))
			must(err)
			digests = append(digests, found)
		}
		text, err := json.Marshal(digests)
		must(err)
		must(os.WriteFile(list, text, 0o644))
		open(c.path())
		return
	}
	var digests []digest.Digest
	text, err := os.ReadFile(list)
	must(err)
	must(json.Unmarshal(text, &digests))
	store := open(c.path())
	c.begin()
	sideBySide(writers, largeCount, func(number int) {
		target := spec.Descriptor{MediaType: layerType, Digest: digests[number], Size: c.large()}
		must(store.Push(context.Background(), target, source(number)))
	})
	c.end(largeCount, largeCount, largeCount*c.large(), true)
}

// sequential reads what largeContents writes.
func (c *cell) sequential() {
	const large = 4
	noise := content(^uint64(0), block)
	source := func(number int) *stream { return &stream{noise: noise, seed: uint64(number), size: c.large()} }
	list := filepath.Join(c.dir, "targets")
	if c.prepares {
		store, targets := open(c.path()), []spec.Descriptor{}
		for number := range large {
			found, err := digest.FromReader(source(number))
			must(err)
			target := spec.Descriptor{MediaType: layerType, Digest: found, Size: c.large()}
			must(store.Push(context.Background(), target, source(number)))
			targets = append(targets, target)
		}
		text, err := json.Marshal(targets)
		must(err)
		must(os.WriteFile(list, text, 0o644))
		return
	}
	var targets []spec.Descriptor
	text, err := os.ReadFile(list)
	must(err)
	must(json.Unmarshal(text, &targets))
	store, buffer, total := open(c.path()), make([]byte, block), int64(0)
	c.begin()
	for _, target := range targets {
		reader, err := store.Fetch(context.Background(), target)
		must(err)
		for {
			count, err := reader.Read(buffer)
			total += int64(count)
			if err == io.EOF {
				break
			}
			must(err)
		}
		must(reader.Close())
	}
	c.end(large, large, total, false)
}

func (c *cell) smallContents(count, threads int) {
	store := open(c.path())
	if c.prepares {
		return
	}
	contents := make([][]byte, count)
	for number := range contents {
		contents[number] = content(uint64(number), small)
	}
	push := func(number int) {
		bytesOf := contents[number]
		must(store.Push(context.Background(), described(layerType, bytesOf), bytes.NewReader(bytesOf)))
	}
	done := 0
	c.begin()
	if threads > 1 {
		sideBySide(threads, count, push)
		done = count
	} else {
		for number := range count {
			push(number)
			done++
			if c.over() {
				break
			}
		}
	}
	c.end(done, count, 0, true)
}

// image has the manifest of an image, and what it refers to.
func image(number int) (config, layer, text []byte) {
	config = fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{"Labels":{"n":"%d"}},"rootfs":{"type":"layers","diff_ids":[]}}`, number)
	layer = content(uint64(number), layerSize)
	text = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","digest":"%s","size":%d},"layers":[{"mediaType":"%s","digest":"%s","size":%d}]}`,
		manifestType, configType, digest.FromBytes(config), len(config), layerType, digest.FromBytes(layer), len(layer))
	return config, layer, text
}

func tagOf(number int) string {
	return fmt.Sprintf("v%07d", number)
}

func referrer(subject []byte, number int) []byte {
	kinds := []string{"application/spdx+json", "application/vnd.dev.cosign.signature.v1+json"}
	empty := fmt.Sprintf(`{"mediaType":"application/vnd.oci.empty.v1+json","digest":"%s","size":2}`, digest.FromString("{}"))
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"%s","artifactType":"%s","config":%s,"layers":[%s],"subject":{"mediaType":"%s","digest":"%s","size":%d},"annotations":{"org.opencontainers.image.created":"2026-01-01T00:00:00Z","example.number":"%d"}}`,
		manifestType, kinds[number%2], empty, empty, manifestType, digest.FromBytes(subject), len(subject), number)
}

// build writes a layout of tagged images with so many referrers each, its index once at the end.
func (c *cell) build(images, referrers int) {
	store := open(c.path())
	store.AutoSaveIndex = false
	ctx := context.Background()
	push := func(mediaType string, bytesOf []byte) spec.Descriptor {
		target := described(mediaType, bytesOf)
		must(store.Push(ctx, target, bytes.NewReader(bytesOf)))
		return target
	}
	push("application/vnd.oci.empty.v1+json", []byte("{}"))
	for number := range images {
		config, layer, text := image(number)
		push(configType, config)
		push(layerType, layer)
		must(store.Tag(ctx, push(manifestType, text), tagOf(number)))
		for referring := range referrers {
			push(manifestType, referrer(text, referring))
		}
	}
	must(store.SaveIndex())
}

func (c *cell) tags() {
	_, _, text := image(0)
	if c.prepares {
		c.build(1, 0)
		return
	}
	store := open(c.path())
	target := described(manifestType, text)
	done, of := 0, c.count(10_000)
	c.begin()
	for number := range of {
		must(store.Tag(context.Background(), target, tagOf(number+1)))
		done++
		if c.over() {
			break
		}
	}
	c.end(done, of, 0, true)
}

// listed is how many referrers a store finds.
func listed(store *oci.Store, subject []byte) int {
	found, err := store.Predecessors(context.Background(), described(manifestType, subject))
	must(err)
	return len(found)
}

func expect(found, expected int) {
	if found != expected {
		log.Fatalf("wrong number of referrers, expected=%d, found=%d", expected, found)
	}
}

func (c *cell) oneSubject() {
	count := c.count(10_000)
	if c.prepares {
		c.build(1, count)
		return
	}
	_, _, subject := image(0)
	store, found := open(c.path()), 0
	c.begin()
	for range lists {
		found += listed(store, subject)
	}
	c.end(lists, lists, 0, false)
	expect(found, lists*count)
}

func (c *cell) manySubjects() {
	count := c.count(10_000)
	if c.prepares {
		c.build(count, five)
		return
	}
	subjects := make([][]byte, count)
	for number := range subjects {
		_, _, subjects[number] = image(number)
	}
	store, pick, found := open(c.path()), newRandom(1), 0
	c.begin()
	for range count {
		found += listed(store, subjects[pick.below(count)])
	}
	c.end(count, count, 0, false)
	expect(found, count*five)
}

func (c *cell) opened() {
	count := c.count(10_000)
	if c.prepares {
		c.build(count, five)
		return
	}
	found, done := 0, 0
	c.begin()
	for range opens {
		store := open(c.path())
		target, err := store.Resolve(context.Background(), tagOf(count/2))
		must(err)
		predecessors, err := store.Predecessors(context.Background(), target)
		must(err)
		found += len(predecessors)
		done++
		if c.over() {
			break
		}
	}
	c.end(done, opens, 0, false)
	expect(found, done*five)
}

func (c *cell) pages() {
	count := c.count(10_000)
	if c.prepares {
		c.build(count+1, 0)
		return
	}
	const page = 100
	store, pages, found := open(c.path()), 0, 0
	c.begin()
	for range lists {
		// It gives all tags behind one at once; a page ends by saying that it is enough.
		for last := ""; ; {
			var tags []string
			enough := fmt.Errorf("enough")
			err := store.Tags(context.Background(), last, func(more []string) error {
				tags = append(tags, more...)
				return enough
			})
			if err != nil && err != enough {
				must(err)
			}
			pages++
			if len(tags) <= page {
				found += len(tags)
				break
			}
			found += page
			last = tags[page-1]
		}
	}
	c.end(pages, pages, 0, false)
	if found != lists*(count+1) {
		log.Fatalf("wrong number of tags, found=%d", found)
	}
}

func (c *cell) smallReads() {
	count := c.count(20_000)
	store := open(c.path())
	targets := make([]spec.Descriptor, count)
	for number := range targets {
		bytesOf := content(uint64(number), small)
		targets[number] = described(layerType, bytesOf)
		if c.prepares {
			must(store.Push(context.Background(), targets[number], bytes.NewReader(bytesOf)))
		}
	}
	if c.prepares {
		return
	}
	pick, total := newRandom(1), int64(0)
	c.begin()
	for range count {
		reader, err := store.Fetch(context.Background(), targets[pick.below(count)])
		must(err)
		bytesOf, err := io.ReadAll(reader)
		must(err)
		must(reader.Close())
		total += int64(len(bytesOf))
	}
	c.end(count, count, total, false)
}

// again asks whether it is there and goes on, as everything that pushes by oras-go does: pushing itself refuses.
func (c *cell) again(size int, full uint64, passes int) {
	count := c.count(full)
	store := open(c.path())
	contents := make([][]byte, count)
	for number := range contents {
		contents[number] = content(uint64(number), size)
		if c.prepares {
			target := described(layerType, contents[number])
			must(store.Push(context.Background(), target, bytes.NewReader(contents[number])))
		}
	}
	if c.prepares {
		return
	}
	c.begin()
	for range passes {
		for _, bytesOf := range contents {
			there, err := store.Exists(context.Background(), described(layerType, bytesOf))
			must(err)
			if !there {
				log.Fatal("a content is gone")
			}
		}
	}
	n := count * passes
	c.end(n, n, int64(n)*int64(size), true)
}

func (c *cell) work() func() {
	return map[string]func(){
		"large-stream":     func() { c.largeContents(1) },
		"large-stream-2":   func() { c.largeContents(2) },
		"small-single":     func() { c.smallContents(c.count(2000), 1) },
		"small-batch":      func() { c.smallContents(8*c.count(1000), 1) },
		"small-concurrent": func() { c.smallContents(8*c.count(500), 8) },
		"small-sustained":  func() { c.smallContents(50*c.count(1000), 1) },
		"repush":           func() { c.again(block, 64, 4) },
		"repush-small":     func() { c.again(small, 1000, 10) },
		"tags-single":      c.tags,
		"list-tags":        c.pages,
		"referrers-one":    c.oneSubject,
		"referrers-many":   c.manySubjects,
		"open":             c.opened,
		"read-sequential":  c.sequential,
		"read-small":       c.smallReads,
	}[c.workload]
}

func describe() {
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"store": "oras-go", "version": version(),
		"workloads": []string{
			"large-stream", "large-stream-2", "small-single", "small-batch", "small-concurrent", "small-sustained", "repush",
			"repush-small", "tags-single", "list-tags", "referrers-one", "referrers-many", "open", "read-sequential", "read-small",
		},
		"cannot": map[string]string{
			"large-file": "it takes streams alone", "large-file-2": "it takes streams alone",
			"tags-batch": "it sets one tag at a time", "read-mapped": "it gives a reader",
			"rebuild": "it has nothing beside the layout", "import": "it has nothing beside the layout; open has what it costs",
			"collect": "timed by its own program: go run . -dir DIR", "*": "not written",
		},
	}))
}

// runCell does what the arguments of a cell say.
func runCell(words []string) {
	scale, err := strconv.ParseUint(words[3], 10, 64)
	must(err)
	seconds, err := strconv.ParseFloat(words[5], 64)
	must(err)
	c := &cell{
		prepares: words[0] == "prepare", workload: words[1], dir: words[2], scale: scale,
		budget: time.Duration(seconds * float64(time.Second)),
	}
	work := c.work()
	if work == nil {
		log.Fatalf("unknown workload, workload=%s", c.workload)
	}
	work()
}
